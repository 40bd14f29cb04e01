"""Pictures that say how they were made: text chunks in a PNG, written and read back.

`parameters` is for readers, in the form that Stable Diffusion's web interfaces use; `esd-lab` is
JSON for `read`. A file may come from anywhere: its pixels are never decoded, and nothing of its
text is believed that `Parameters` and `EraseConfig` do not accept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BeforeValidator, Field

from esd_core import card
from esd_core.config import GUIDANCE, SEEDS, STEPS, EraseConfig, Scheduler
from esd_core.erasure import STRENGTHS, Erasure
from esd_core.models import DiffusionModel
from esd_core.support.files import replacing
from esd_core.support.strict import as_tuple, strict, within

FORMAT = "esd-lab-picture/1"
LARGEST = 32 * 2**20  # bytes of a file
LONGEST = 100_000  # characters of the JSON

Text = Annotated[str, Field(max_length=2000)]
Several = Field(min_length=1, max_length=64)
Axis = Annotated[tuple[Text, Annotated[str, Field(max_length=8000)]], BeforeValidator(as_tuple)]


@strict
class Parameters:
    """What a sheet of pictures was drawn with, all from one noise a seed; ValueError if a value cannot be."""

    prompts: Annotated[tuple[Text, ...], BeforeValidator(as_tuple), Several]
    seeds: Annotated[tuple[Annotated[int, within(SEEDS)], ...], BeforeValidator(as_tuple), Several]
    model: Text
    base: Text  # fingerprint of the frozen weights
    guidance_scale: Annotated[float, within(GUIDANCE)] = 4.0
    num_inference_steps: Annotated[int, within(STEPS)] = 20
    scheduler: Scheduler = "ddim"
    negative_prompt: Text = ""
    strength: Annotated[float, within(STRENGTHS)] = 1.0  # of the erasure
    erasure: Text | None = None  # its hash
    # Of the run that made the erasure, as far as it went.
    config: Annotated[
        EraseConfig | None, BeforeValidator(lambda c: EraseConfig.from_dict(c) if isinstance(c, dict) else c)
    ] = None
    column: Text | None = None  # which model drew it; None for a sheet of all
    place: Annotated[tuple[int, int] | None, BeforeValidator(as_tuple)] = None  # (prompt, seed); None for all
    axes: Annotated[tuple[()] | tuple[Axis, Axis], BeforeValidator(as_tuple)] = ()  # a grid's: across, down
    versions: Annotated[tuple[Text, ...], BeforeValidator(as_tuple)] = ()


def of(
    model: DiffusionModel, erasure: Erasure | None, prompts: Sequence[str], seeds: Sequence[int], **drawn: Any
) -> Parameters:
    """The parameters of pictures that are drawn now; `drawn` are `guidance_scale` and other fields that are
    not the defaults. ValueError as `Parameters`."""
    if erasure:
        drawn |= {"erasure": erasure.hash, "config": card.repeatable(erasure)}
    versions = tuple(f"{name} {version(name)}" for name in ("torch", "diffusers"))
    return Parameters(tuple(prompts), tuple(seeds), model.name, model.fingerprint, versions=versions, **drawn)


def as_text(made: Parameters) -> str:
    """For a reader: the prompts, the negative prompt, then everything else in one line."""
    i, j = made.place or (None, None)
    lines = [*(made.prompts if i is None else made.prompts[i : i + 1])]
    seeds = made.seeds if j is None else made.seeds[j : j + 1]
    if made.negative_prompt and made.column in (None, "negative prompt"):
        lines.append(f"Negative prompt: {made.negative_prompt}")
    facts = [
        f"Steps: {made.num_inference_steps}, Sampler: {made.scheduler}, CFG scale: {made.guidance_scale:g}",
        f"Seed: {' '.join(map(str, seeds))}, Model hash: {made.base}, Model: {made.model}",
    ]
    if made.erasure and made.column in (None, "erased"):
        facts += [f"Erasure: {made.erasure}", f"Erasure strength: {made.strength:g}"]
        if made.config:
            facts.append(f"Erased: {'; '.join(t.concept for t in made.config.concepts)}")
    for side, (knob, values) in zip(("Columns", "Rows"), made.axes, strict=False):
        facts.append(f"{side}: {knob} {values}")
    return "\n".join([*lines, ", ".join([*facts, "Version: ESD Lab"])])


def stamp(picture: Image.Image, made: Parameters) -> Image.Image:
    """The picture, carrying its parameters in `info`, from which Gradio writes them too."""
    picture.info["parameters"] = as_text(made)
    picture.info["esd-lab"] = json.dumps({"format": FORMAT, **asdict(made)})
    return picture


def info_of(picture: Image.Image) -> PngInfo:
    """What `stamp` added, as Pillow's `pnginfo`."""
    info = PngInfo()
    for name in ("parameters", "esd-lab"):
        if name in picture.info:
            info.add_text(name, picture.info[name])
    return info


def save(picture: Image.Image, path: str | Path) -> Path:
    """Write a stamped picture; a reader never sees a half-written one."""
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info_of(picture))
    return Path(path)


def read(path: str | Path) -> Parameters:
    """The parameters of a PNG that this project made; ValueError if it is none, too large, or carries none or
    nonsense."""
    path = Path(path)
    if not path.is_file() or path.stat().st_size > LARGEST:
        raise ValueError(f"{path.name} is no file, or larger than {LARGEST // 2**20} MB")
    try:
        with Image.open(path, formats=["PNG"]) as picture:  # reads chunks, decodes no pixels
            text = picture.info.get("esd-lab")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path.name} is not a readable PNG file") from error
    if not isinstance(text, str) or len(text) > LONGEST:
        raise ValueError(f"{path.name} carries no parameters of ESD Lab; was it saved again since?")
    try:
        known = json.loads(text)
        if known.pop("format") != FORMAT:
            raise ValueError("they are of another version")
        return Parameters(**known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"the parameters in {path.name} cannot be used: {error}") from error
