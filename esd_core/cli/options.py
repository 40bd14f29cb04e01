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
from esd_core.support.strict import UNBOUNDED

STRENGTHS = (-10, 10)  # as erasure.STRENGTHS
NAMED = inspect.Parameter.POSITIONAL_OR_KEYWORD
Group = dict[str, inspect.Parameter]
# Other spellings of options than their names with hyphens; `sweep` takes them as columns, too.
SPELLINGS = {
    "eta": ["--negative-guidance"],
    "learning_rate": ["--lr"],
    "num_inference_steps": ["--steps", "--ddim-steps"],
    "preserve_prompts": ["--preserve-prompt"],
}


def option(
    kind: Any,  # noqa: ANN401
    help: str,
    *flags: str,
    default: Any = None,  # noqa: ANN401
    within: tuple[float | None, float | None] = (None, None),
) -> inspect.Parameter:
    """An option, still without a name; the help says what leaving it out means, as None is not shown."""
    shown = typer.Option(*flags, help=help, show_default=default is not None, min=within[0], max=within[1])
    known: Any = kind if default is not None else kind | None
    return inspect.Parameter("unnamed", NAMED, default=default, annotation=Annotated[known, shown])


def group(heading: str, **options: inspect.Parameter) -> Group:
    """Options by name, under a heading of their own in --help."""
    for declared in options.values():
        declared.annotation.__metadata__[0].rich_help_panel = heading
    return {name: declared.replace(name=name) for name, declared in options.items()}


def taking(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take the options of these groups, as its `**options`."""

    def wrapped(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)
        named = [p for p in own.parameters.values() if p.kind == NAMED]
        parameters = [*named, *(declared for group in groups for declared in group.values())]
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
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
        name: option(
            list[str] if declared.kind is tuple else declared.kind,
            described(name),
            f"--{name.replace('_', '-')}",
            *SPELLINGS.get(name, ()),
        )
        for name, declared in OPTIONS.items()
        if name != "concepts"
    },
)
LOADING = group(
    "Model",
    model=option(str, "emoji, a folder in diffusers layout, or a Hugging Face Hub id.", default="emoji"),
    device=option(str, "cpu, cuda, cuda:1, ...; default: cuda if there is one."),
)
EDITED = LOADING | group(
    "Model",
    erasures=option(list[Path], "A file, ours or the authors'; repeat it to combine several.", "--erasure"),
    strengths=option(
        list[float],
        "One each: 0 none, 1 as trained (default), below 0 the reverse.",
        "--strength",
        within=STRENGTHS,
    ),
)
SAMPLING = group(
    "Drawing",
    guidance_scale=option(
        float,
        "1 is plain conditional, 0 ignores the prompt, below 0 avoids it.",
        "--guidance",
        "--guidance-scale",
        default=4.0,
        within=GUIDANCE,
    ),
    num_inference_steps=option(
        int, "Sampling steps.", "--steps", "--num-inference-steps", default=20, within=STEPS
    ),
)
DRAWING = SAMPLING | group(
    "Drawing",
    seeds=option(list[int], "Of the starting noise; repeat it for several pictures.", "--seed", within=SEEDS),
    scheduler=option(str, f"{', '.join(OPTIONS['scheduler'].choices)}.", default="ddim"),
    image_size=option(int, "Pixels a side; default: the model's own."),
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
