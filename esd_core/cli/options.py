"""The options of the commands, declared in groups, and what several commands make of theirs."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Annotated, Any

import typer

import esd_core
from esd_core.config import GUIDANCE, OPTIONS, PRESETS, SEEDS, STEPS, preset
from esd_core.support.strict import UNBOUNDED, Option

KEYWORD = inspect.Parameter.KEYWORD_ONLY
Group = dict[str, inspect.Parameter]
# Other spellings of options than their names with hyphens; `sweep` takes those of erasing as columns, too.
SPELLINGS = {
    "config_path": ["--diffusers-config-path"],
    "erasures": ["--erasure"],
    "eta": ["--negative-guidance"],
    "guidance_scale": ["--guidance"],
    "labels": ["--label"],
    "learning_rate": ["--lr"],
    "num_inference_steps": ["--steps", "--ddim-steps"],
    "preserve_prompts": ["--preserve-prompt"],
    "seeds": ["--seed"],
    "separator": ["--seperator"],
    "strengths": ["--strength"],
    "weights": ["--weight"],
}


def group(heading: str, **options: Option) -> Group:
    """Parameters of a command by name, under a heading of their own in --help. Each help says what leaving it
    out means, as the default None is not shown."""
    made = {}
    for name, declared in options.items():
        flags = sorted([f"--{name.replace('_', '-')}", *SPELLINGS.get(name, ())], key=len)
        low, high = declared.bounds if declared.bounds != UNBOUNDED else (None, None)
        shown = typer.Option(*flags, help=declared.help, min=low, max=high, rich_help_panel=heading)
        kind: Any = Annotated[list[str] if declared.kind is tuple else declared.kind, shown]
        made[name] = inspect.Parameter(name, KEYWORD, default=declared.default, annotation=kind)
    return made


def taking(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of these groups, as its `**options`."""

    def wrapped(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        *named, _ = own.parameters.values()  # the last is `**options`
        taken = [parameter for group in groups for parameter in group.values()]
        command.__signature__ = own.replace(parameters=[*named, *taken])  # type: ignore[attr-defined]
        return command

    return wrapped


def described(name: str) -> str:
    """The help of an option of erasing: meaning, choices or range, and default, or that of each preset."""
    declared = OPTIONS[name]
    parts = [declared.help]
    if declared.choices:
        parts.append(", ".join(declared.choices))
    elif declared.bounds != UNBOUNDED:
        parts.append("{:g} to {:.10g}".format(*declared.bounds))
    if declared.default not in (None, ()):
        own = {p: getattr(preset(p, "anything"), name) for p in PRESETS}
        each = ", ".join(f"{p} {value}" for p, value in own.items())
        parts.append(f"default: {each if len(set(own.values())) > 1 else declared.default}")
    return f"{'; '.join(parts)}."


ERASING = group(
    "Erasing",
    **{
        name: Option(declared.kind, described(name))  # `EraseConfig` refuses what is out of range
        for name, declared in OPTIONS.items()
        if name != "concepts"
    },
)
LOADING = group(
    "Model",
    model=Option(str, "emoji, a folder in diffusers layout, or a Hugging Face Hub id.", "emoji"),
    device=Option(str, "cpu, cuda, cuda:1, ...; default: cuda if there is one."),
)
BY_STRENGTH = "One each: 0 none, 1 as trained (default), below 0 the reverse."
EDITED = LOADING | group(
    "Model",
    erasures=Option(list[Path], "A file, ours or the authors'; repeat it to combine several."),
    strengths=Option(list[float], BY_STRENGTH, bounds=(-10, 10)),  # as erasure.STRENGTHS
)
GUIDED = "1 is plain conditional, 0 ignores the prompt, below 0 avoids it."
SAMPLING = group(
    "Drawing",
    guidance_scale=Option(float, GUIDED, 4.0, GUIDANCE),
    num_inference_steps=Option(int, "Sampling steps.", 20, STEPS),
)
DRAWING = SAMPLING | group(
    "Drawing",
    seeds=Option(list[int], "Of the starting noise; repeat it for several pictures.", bounds=SEEDS),
    scheduler=Option(str, f"{', '.join(OPTIONS['scheduler'].choices)}.", "ddim"),
    image_size=Option(int, "Pixels a side; default: the model's own."),
)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value, and nothing else, on stdout.")]


def note(text: str) -> None:
    """Tell the reader, not the script: stderr."""
    typer.echo(text, err=True)


def load(model: str, device: str | None = None) -> esd_core.DiffusionModel:
    """The model, without the libraries' progress bars."""
    import diffusers.utils.logging
    import transformers.utils.logging

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    return esd_core.load_model(model, device=device)


def warn_of_unknown_words(model: esd_core.DiffusionModel, prompts: Sequence[str]) -> None:
    """Name words the model was never taught, if it keeps a list."""
    unknown = dict.fromkeys(word for prompt in prompts for word in model.unknown_words(prompt))
    if unknown:
        note(f"warning: {model.name!r} has never seen: {', '.join(unknown)}")


def slug(text: str) -> str:
    """`text` as a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def free(path: Path) -> Path:
    """`path`, or if it is taken the first of `name-2`, `name-3`, ... that is not."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(found for found in chain([path], numbered) if not found.exists())


def writable(file: Path) -> Path:
    """The file, refused before anything is drawn or learned if it cannot be written."""
    above = next(parent for parent in file.absolute().parents if parent.exists())
    if file.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{file} cannot be written; give another --out")
    return file
