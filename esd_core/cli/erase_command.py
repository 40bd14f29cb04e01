"""The command `erase`: its options are read, checked and handed to a run.

Option names may be written with underscores. That, and the last group of options, makes command
lines of the authors' 2023 script `train-esd.py` (rohitgandikota/erasing) work as they are.
Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core import config as configs
from esd_core.cli import script_2023
from esd_core.cli.command_options import AsJson, Device, Model, load, note, option, warn_of_unknown_words
from esd_core.cli.config_options import with_config_options
from esd_core.config import PRESETS, EraseConfig, Target

if TYPE_CHECKING:
    from torch import Tensor

    from esd_core.models import DiffusionModel

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")

OF_2023 = "As in the 2023 script"

Concepts = Annotated[
    list[str] | None,
    typer.Argument(help="Prompts that name what to erase, such as 'a cat'.", show_default=False),
]
EraseFrom = Annotated[
    list[str] | None,
    option("The context to erase it from, keeping all else of it: one for all concepts, or each."),
]
Weights = Annotated[
    list[float] | None,
    option("How often an update draws a concept, relative to the others: one each.", "--weight"),
]
Preset = Annotated[
    str | None,
    option(
        f"{', '.join(PRESETS)}; options of erasing that you give win; default: live with the "
        "embedded model, live-sd with others."
    ),
]
Images = Annotated[
    list[Path] | None, option("Pictures, or folders of them, for --x-t-source images; repeatable.")
]
Out = Annotated[
    Path | None, option("New folder for the results; default: outputs/<concept>-<method>, numbered if taken.")
]
Prompt = Annotated[str | None, option("The same as an argument.", panel=OF_2023)]
Separator = Annotated[
    str | None, option("Splits each prompt into concepts.", "--seperator", "--separator", panel=OF_2023)
]
CkptPath = Annotated[
    str | None, option("A diffusers folder, like --model; a CompVis .ckpt is refused.", panel=OF_2023)
]
ConfigPath = Annotated[str | None, option("Not needed: a diffusers folder carries its own.", panel=OF_2023)]
DiffusersConfigPath = Annotated[str | None, option("Not needed either.", panel=OF_2023)]
Devices = Annotated[str | None, option("0,0 means --device cuda:0; one device is enough.", panel=OF_2023)]


@with_config_options
def erase(
    concepts: Concepts = None,
    erase_from: EraseFrom = None,
    weights: Weights = None,
    preset: Preset = None,
    images: Images = None,
    out: Out = None,
    as_json: AsJson = False,
    model: Model = "emoji",
    device: Device = None,
    prompt: Prompt = None,
    separator: Separator = None,
    ckpt_path: CkptPath = None,
    config_path: ConfigPath = None,
    diffusers_config_path: DiffusersConfigPath = None,
    devices: Devices = None,
    **options: Any,
) -> None:
    """Erase concepts from a model; writes one folder with the erasure, its loss and pictures.

    Ctrl-C stops after the running update and keeps what was learned (exit code 130). In several
    processes, by `accelerate launch -m esd_core erase ...`, they share out each update's examples.
    """
    from esd_core import parallel
    from esd_core.cli import erase_run, run_folder

    prompts = [*(concepts or ()), *([prompt] if prompt is not None else ())]
    if separator:
        prompts = [part.strip() for text in prompts for part in text.split(separator)]
    given = {name: value for name, value in options.items() if value not in (None, [])}
    if images:
        given.setdefault("x_t_source", "images")
    model = script_2023.model_folder(ckpt_path) or model
    preset = configs.usual_preset(model) if preset is None else preset
    config = configs.preset(preset, targets(prompts, erase_from or [], weights or []), **given)
    team, device = parallel.join(device or script_2023.device(devices))
    run_folder.check_new(out)
    team.wait()  # until all have looked; then the first may make it
    if config_path or diffusers_config_path:
        note("note: --config_path and --diffusers_config_path are not needed and not read")
    loaded = load(model, device)
    config = in_its_words(loaded, config)
    pictures = read_pictures(images, config.image_size or loaded.image_size) if images else None
    run = erase_run.run(loaded, config, images=pictures, out=out, team=team)
    team.leave()
    if team.leads:
        typer.echo(run.json() if as_json else run.text())
    raise typer.Exit(run.exit_code)


def targets(prompts: Sequence[str], erase_from: Sequence[str], weights: Sequence[float]) -> list[Target]:
    """Concepts with their contexts and weights, which come once for all (contexts) or one each."""
    contexts: list[str | None] = list(erase_from) or [None]
    if len(contexts) == 1:
        contexts *= len(prompts)
    heavy = list(weights) or [1.0] * len(prompts)
    for flag, values in (("--erase-from", contexts), ("--weight", heavy)):
        if len(values) != len(prompts):
            raise ValueError(f"{len(prompts)} concepts and {len(values)} {flag}; give one each")
    return [Target(*each) for each in zip(prompts, contexts, heavy, strict=True)]


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
    warn_of_unknown_words(model, prompts)
    return replace(config, concepts=named)


def read_pictures(paths: Sequence[Path], size: int) -> Tensor:
    """Pictures `(M, 3, size, size)` in [0, 1] from files and folders, cut to the middle square.

    Raises:
        ValueError: there is none, or one cannot be read.
    """
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
                square = ImageOps.fit(opened.convert("RGB"), (size, size))
        except OSError as error:
            raise ValueError(f"cannot read the picture {file}: {error}") from error
        read.append(torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255)
    return torch.stack(read)
