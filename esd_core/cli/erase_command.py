"""The command `erase`: its options are read, checked and handed to a run.

Option names may be written with underscores. That, and the options of OF_2023, makes command lines of the
authors' 2023 script `train-esd.py` (rohitgandikota/erasing) work as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core.cli import options as shared
from esd_core.cli.options import ERASING, LOADING, AsJson, group, note, option
from esd_core.config import PRESETS, EraseConfig, Target, preset, usual_preset

if TYPE_CHECKING:
    from torch import Tensor

    from esd_core.checkpoint import Checkpoint
    from esd_core.models import DiffusionModel

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

Concepts = Annotated[
    list[str] | None,
    typer.Argument(help="Prompts that name what to erase, such as 'a cat'.", show_default=False),
]
RUN = group(
    "Run",
    erase_from=option(list[str], "Its context, of which all else is kept: one for all concepts, or each."),
    weights=option(list[float], "How often, relative to the others, a concept's turn comes.", "--weight"),
    preset=option(str, f"{', '.join(PRESETS)}; options given win; default: live with emoji, else live-sd."),
    images=option(list[Path], "Pictures, or folders of them, for --x-t-source images; repeatable."),
    out=option(Path, "New folder; default: outputs/<concept>-<method>, numbered if taken."),
    resume=option(Path, "Go on in this run's folder, with its options; only --iterations may differ."),
)
OF_2023 = group(
    "As in the 2023 script",
    prompt=option(str, "The same as an argument."),
    separator=option(str, "Splits each prompt into concepts.", "--seperator", "--separator"),
    ckpt_path=option(str, "A diffusers folder, like --model; a CompVis .ckpt is refused."),
    config_path=option(str, "Not needed.", "--config-path", "--diffusers-config-path"),
    devices=option(str, "0,0 means --device cuda:0; one device is enough."),
)


@shared.taking(RUN, ERASING, OF_2023, LOADING)
def erase(concepts: Concepts = None, as_json: AsJson = False, **options: Any) -> None:
    """Erase concepts from a model; writes one folder with the erasure, its loss and pictures.

    Ctrl-C stops after the running update and keeps what was learned (exit code 130). In several
    processes, by `accelerate launch -m esd_core erase ...`, they share out each update's examples.
    """
    from esd_core import parallel
    from esd_core.cli import erasing_run, run_folder

    erase_from, weights, named_preset, images, out, resume = (options.pop(name) for name in RUN)
    prompt, separator, ckpt_path, config_path, devices = (options.pop(name) for name in OF_2023)
    model, device = (options.pop(name) for name in LOADING)
    model = model_folder(ckpt_path) or model
    named = targets(prompts(concepts, prompt, separator), erase_from or [], weights or [])
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if images:
        given.setdefault("x_t_source", "images")
    rest = None
    if resume:
        if named_preset or out:
            raise ValueError(
                "--resume goes on with the former run's options, in its folder; leave out --preset and --out"
            )
        rest, out = run_folder.read_checkpoint(resume), resume
        config, model = former(rest, named, given, model)
    else:
        config = preset(named_preset or usual_preset(model), named, **given)
        run_folder.check_new(out)
    team, device = parallel.join(device or first_device(devices))
    team.wait()  # until all have looked; then the first may make the folder
    if config_path:
        note("note: --config_path and --diffusers_config_path are not needed and not read")
    loaded = shared.load(model, device)
    config = in_its_words(loaded, config)
    pictures = read_pictures(images, config.image_size or loaded.image_size) if images else None
    run = erasing_run.carry_out(loaded, config, images=pictures, out=out, rest=rest, team=team)
    team.leave()
    if team.leads:
        typer.echo(json.dumps(run.summary()) if as_json else run.text())
    raise typer.Exit(erasing_run.EXIT_CODES[run.ending])


def prompts(concepts: Sequence[str] | None, prompt: str | None, separator: str | None) -> list[str]:
    """All concepts that are named, apart; between two separators there may be none."""
    texts = [*(concepts or ()), *([] if prompt is None else [prompt])]
    if not separator:
        return texts
    return [part.strip() for text in texts for part in text.split(separator) if part.strip()]


def targets(named: Sequence[str], erase_from: Sequence[str], weights: Sequence[float]) -> list[Target]:
    """Concepts with their contexts and weights, which come once for all (contexts) or one each."""
    contexts: list[str | None] = list(erase_from) or [None] * len(named)
    if len(contexts) == 1:
        contexts *= max(1, len(named))
    heavy = list(weights) or [1.0] * len(named)
    for flag, values in (("--erase-from", contexts), ("--weight", heavy)):
        if len(values) != len(named):
            raise ValueError(f"{len(named)} concepts and {len(values)} {flag}; give one each")
    return [Target(*each) for each in zip(named, contexts, heavy, strict=True)]


def former(
    rest: Checkpoint, named: list[Target], given: dict[str, Any], model: str
) -> tuple[EraseConfig, str]:
    """Options and model of the run that left this checkpoint, with what is given now in their place, which
    `Checkpoint.check` refuses where it may not differ."""
    config = EraseConfig.from_dict(
        {**rest.config.to_dict(), **given, **({"concepts": named} if named else {})}
    )
    return config, rest.erasure.provenance.get("model", model) if model == "emoji" else model


def in_its_words(model: DiffusionModel, config: EraseConfig) -> EraseConfig:
    """The config with names of the model's vocabulary as its phrases ("cat" -> "a cat"), after
    refusing prompts the model cannot read and warning of words it has never seen."""

    def phrase(text: str) -> str:
        found = model.vocabulary.find(text) if model.vocabulary else None
        return found.phrase if found else text

    named = tuple(
        replace(t, concept=phrase(t.concept), erase_from=t.erase_from and phrase(t.erase_from))
        for t in config.concepts
    )
    prompts = [p for t in named for p in (t.concept, t.erase_from) if p]
    model.encode([*prompts, *config.preserve_prompts])
    model.latent_shape(config.image_size)
    shared.warn_of_unknown_words(model, prompts)
    return replace(config, concepts=named)


def read_pictures(paths: Sequence[Path], size: int) -> Tensor:
    """Pictures `(M, 3, size, size)` in [0, 1] from files and folders, cut to the middle square, on white."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    nested = [sorted(p.iterdir()) if p.is_dir() else [p] for p in paths]
    files = [f for group in nested for f in group if f in paths or f.suffix.lower() in PICTURES]
    if not files:
        raise ValueError(f"no pictures ({', '.join(PICTURES)}) in {', '.join(map(str, paths))}")
    read = []
    for file in files:
        try:
            with Image.open(file) as opened:
                square = ImageOps.fit(
                    opened.convert("RGBA" if opened.has_transparency_data else "RGB"), (size, size)
                )
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read the picture {file}: {error}") from error
        white = Image.new("RGB", square.size, "white")
        white.paste(square, mask=square.getchannel("A") if square.mode == "RGBA" else None)
        read.append(torch.from_numpy(np.array(white)).permute(2, 0, 1) / 255)
    return torch.stack(read)


def model_folder(ckpt_path: str | None) -> str | None:
    """The model that `--ckpt_path` names, if it is one we read."""
    if ckpt_path is None or Path(ckpt_path).is_dir():
        return ckpt_path
    raise ValueError(
        f"--ckpt_path {ckpt_path}: a CompVis checkpoint cannot be read without unpickling it, "
        "which may run code; give --model a folder or Hub id in diffusers layout instead"
    )


def first_device(devices: str | None) -> str | None:
    """The first of `--devices 0,0`, as frozen and edited model share their weights; where CUDA is absent the
    CPU, with a note."""
    if devices is None:
        return None
    import torch

    first = devices.split(",")[0].strip()
    if not first.isdecimal():
        raise ValueError(f"--devices is {devices!r}; use numbers such as 0,0, or --device cpu")
    if not torch.cuda.is_available():
        note(f"note: --devices {devices}: there is no CUDA here; running on the CPU")
        return "cpu"
    return f"cuda:{first}"
