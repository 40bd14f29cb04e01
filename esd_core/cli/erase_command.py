"""The command `erase`: its options are read, checked and handed to a run.

Option names may be written with underscores. That, and the options of OF_2023, makes command lines of the
authors' 2023 script `train-esd.py` (rohitgandikota/erasing) work as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import esd_core
from esd_core.cli import options as shared
from esd_core.cli.options import ERASING, LOADING, AsJson, group, note
from esd_core.config import PRESETS, EraseConfig, Target, preset, usual_preset
from esd_core.support.strict import Option

Concepts = Annotated[
    list[str] | None,
    typer.Argument(help="Prompts that name what to erase, such as 'a cat'.", show_default=False),
]
RUN = group(
    "Run",
    erase_from=Option(list[str], "Its context, of which all else is kept: one for all concepts, or each."),
    weights=Option(list[float], "How often, relative to the others, a concept's turn comes."),
    preset=Option(str, f"{', '.join(PRESETS)}; options given win; default: live with emoji, else live-sd."),
    images=Option(list[Path], "Pictures, or folders of them, for --x-t-source images; repeatable."),
    out=Option(Path, "New folder; default: outputs/<concept>-<method>, numbered if taken."),
    resume=Option(Path, "Go on in this run's folder, with its options; only --iterations may differ."),
)
OF_2023 = group(
    "As in the 2023 script",
    prompt=Option(str, "The same as an argument."),
    separator=Option(str, "Splits each prompt into concepts."),
    ckpt_path=Option(str, "The same as --model: a diffusers folder, no CompVis .ckpt."),
    config_path=Option(str, "Not needed and not read."),
    devices=Option(str, "0,0 means --device cuda:0; one device is enough."),
)


@shared.taking(RUN, ERASING, OF_2023, LOADING)
def erase(concepts: Concepts = None, as_json: AsJson = False, **options: Any) -> None:
    """Erase concepts from a model; writes one folder with the erasure, its loss and pictures.

    Ctrl-C stops after the running update and keeps what was learned (exit code 130). In several
    processes, by `accelerate launch -m esd_core erase ...`, they share out each update's examples.
    """
    from esd_core.cli import erasing_run
    from esd_core.exchange.formats import read_pictures
    from esd_core.support import parallel

    erase_from, weights, named_preset, images, out, resume = (options.pop(name) for name in RUN)
    prompt, separator, ckpt_path, _, devices = (options.pop(name) for name in OF_2023)
    model, device = (options.pop(name) for name in LOADING)
    model, device = ckpt_path or model, device or (cuda_device(devices) if devices else None)
    named = targets([*(concepts or ()), *filter(None, [prompt])], separator, erase_from, weights)
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if images:
        given.setdefault("x_t_source", "images")
    rest = None
    if resume:
        if named_preset or out:
            raise ValueError("--resume takes its run's own options and folder; leave out --preset and --out")
        rest, out = erasing_run.read_checkpoint(resume), resume
        if named:
            given["concepts"] = named
        config = EraseConfig.from_dict({**rest.config.to_dict(), **given})  # `Checkpoint.check` compares them
        if model == "emoji":
            model = rest.erasure.provenance.get("model", model)
    else:
        config = preset(named_preset or usual_preset(model), named, **given)
        refuse_former(out)
    team, device = parallel.join(device)
    team.wait()  # until all have looked; then the first may make the folder
    loaded = shared.load(model, device)
    config = in_its_words(loaded, config)
    pictures = read_pictures(images, config.image_size or loaded.image_size) if images else None
    run = erasing_run.Run(loaded, config, out or new_folder(config))
    if rest:
        run.go_on(rest)
    steps = esd_core.erase(loaded, config, images=pictures, resume=rest, team=team)
    erasing_run.carry_out(run, steps, team)
    team.leave()
    if team.leads:
        typer.echo(json.dumps(run.summary()) if as_json else run.text())
    raise typer.Exit(erasing_run.EXIT_CODES[run.ending])


def targets(
    texts: Sequence[str],
    separator: str | None,
    erase_from: Sequence[str] | None,
    weights: Sequence[float] | None,
) -> list[Target]:
    """Concepts, of which a text may name several, with contexts, one for all or each, and weights."""
    if separator:  # between two of them there may be nothing
        texts = [part.strip() for text in texts for part in text.split(separator) if part.strip()]
    contexts: Sequence[str | None] = erase_from or [None] * len(texts)
    if len(contexts) == 1 and texts:
        contexts = [*contexts] * len(texts)
    weights = weights or [1.0] * len(texts)
    for flag, values in (("--erase-from", contexts), ("--weight", weights)):
        if len(values) != len(texts):
            raise ValueError(f"{len(texts)} concepts and {len(values)} {flag}; give one each")
    return [Target(*each) for each in zip(texts, contexts, weights, strict=True)]


def refuse_former(folder: Path | None) -> None:
    """Raise ValueError if a run may not be written there: a former one is never touched."""
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; give another --out")
    shared.writable((folder or Path("outputs")) / "config.json")


def new_folder(config: EraseConfig) -> Path:
    """outputs/<concept>-<method>, numbered if that is taken."""
    concepts = shared.slug(" ".join(t.concept for t in config.concepts))
    return shared.free(Path("outputs") / f"{concepts}-{config.train_method}")


def in_its_words(model: esd_core.DiffusionModel, config: EraseConfig) -> EraseConfig:
    """The config with names of the model's vocabulary as its phrases ("cat" -> "a cat"), after
    refusing prompts the model cannot read and warning of words it has never seen."""

    def phrase(text: str | None) -> Any:  # noqa: ANN401
        found = model.vocabulary.find(text) if model.vocabulary and text else None
        return found.phrase if found else text

    named = tuple(Target(phrase(t.concept), phrase(t.erase_from), t.weight) for t in config.concepts)
    prompts = [p for t in named for p in (t.concept, t.erase_from) if p]
    model.encode([*prompts, *config.preserve_prompts])
    model.latent_shape(config.image_size)
    shared.warn_of_unknown_words(model, prompts)
    return replace(config, concepts=named)


def cuda_device(devices: str) -> str:
    """The first of devices such as "0,0": frozen and edited model share weights. Without CUDA the CPU."""
    import torch

    if not (first := devices.split(",")[0].strip()).isdecimal():
        raise ValueError(f"--devices is {devices!r}; use numbers such as 0,0, or --device cpu")
    if torch.cuda.is_available():
        return f"cuda:{first}"
    note(f"note: --devices {devices}: there is no CUDA here; running on the CPU")
    return "cpu"
