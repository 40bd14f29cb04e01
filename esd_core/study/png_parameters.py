"""Pictures that say how they were made: text chunks in a PNG, written and read back.

`parameters` is for readers, in the form that Stable Diffusion's web interfaces use; `esd-lab` is
JSON for `read`. A file may come from anywhere: its pixels are never decoded, and nothing of its
text is believed that `Parameters` and `EraseConfig` do not accept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from esd_core import card
from esd_core.config import OPTIONS, EraseConfig
from esd_core.erasure import STRENGTHS, Erasure
from esd_core.files import replacing
from esd_core.models import DiffusionModel
from esd_core.sampling import SCHEDULERS

FORMAT = "esd-lab-picture/1"
LARGEST = 32 * 2**20  # bytes of a file
LONGEST = 100_000  # characters of the JSON
MOST = 64  # prompts, and seeds


@dataclass(frozen=True)
class Parameters:
    """What a sheet of pictures was drawn with. All of it starts from one noise per seed.

    Raises:
        ValueError: a value is of the wrong kind or out of range.
    """

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    guidance_scale: float
    num_inference_steps: int
    scheduler: str
    negative_prompt: str
    strength: float  # of the erasure
    model: str
    base: str  # fingerprint of the frozen weights
    erasure: str | None = None  # its hash
    config: EraseConfig | None = None  # of the run that made it, as far as it went
    column: str | None = None  # which model drew it; None for a sheet of all
    place: tuple[int, int] | None = None  # (prompt, seed), as indices; None for a sheet of all
    axes: tuple[tuple[str, str], ...] = ()  # of a grid: (knob, its values) across, then down
    versions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("prompts", "seeds", "versions", "place"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        object.__setattr__(self, "axes", tuple((knob, values) for knob, values in self.axes))
        texts = (*self.prompts, self.negative_prompt, self.model, self.base, *self.versions)
        low, high = OPTIONS["seed"].bounds
        steps = OPTIONS["num_inference_steps"].bounds
        right = {
            "prompts": 0 < len(self.prompts) <= MOST and all(_is_text(t) for t in texts),
            "seeds": 0 < len(self.seeds) <= MOST
            and all(isinstance(s, int) and low <= s <= high for s in self.seeds),
            "guidance_scale": -100 <= self.guidance_scale <= 100,
            "num_inference_steps": isinstance(self.num_inference_steps, int)
            and steps[0] <= self.num_inference_steps <= steps[1],
            "scheduler": self.scheduler in tuple(SCHEDULERS),
            "strength": STRENGTHS[0] <= self.strength <= STRENGTHS[1],
            "erasure": self.erasure is None or _is_text(self.erasure),
            "axes": len(self.axes) in (0, 2) and all(_is_text(t, 8000) for axis in self.axes for t in axis),
            "column": self.column is None or _is_text(self.column),
            "place": self.place is None
            or (len(self.place) == 2 and all(isinstance(i, int) for i in self.place)),
        }
        if wrong := next((name for name, fine in right.items() if not fine), None):
            raise ValueError(f"{wrong} is {str(getattr(self, wrong))[:80]!r}, which cannot be")
        if isinstance(self.config, dict):
            object.__setattr__(self, "config", EraseConfig.from_dict(self.config))
        elif not isinstance(self.config, EraseConfig | None):
            raise ValueError("config is no set of options")


def _is_text(value: Any, longest: int = 2000) -> bool:  # noqa: ANN401
    return isinstance(value, str) and len(value) <= longest


def of(
    model: DiffusionModel,
    erasure: Erasure | None,
    prompts: tuple[str, ...],
    seeds: tuple[int, ...],
    *,
    strength: float = 1.0,
    negative_prompt: str = "",
    guidance_scale: float = 4.0,
    num_inference_steps: int = 20,
    scheduler: str = "ddim",
    axes: tuple[tuple[str, str], ...] = (),
) -> Parameters:
    """The parameters of pictures that are drawn now."""
    return Parameters(
        prompts,
        seeds,
        guidance_scale,
        num_inference_steps,
        scheduler,
        negative_prompt,
        strength,
        model.name,
        model.fingerprint,
        erasure.hash if erasure else None,
        card.repeatable(erasure) if erasure else None,
        axes=axes,
        versions=tuple(f"{name} {version(name)}" for name in ("torch", "diffusers")),
    )


def as_text(made: Parameters) -> str:
    """For a reader: the prompts, the negative prompt, then everything else in one line."""
    i, j = made.place or (None, None)
    prompts = made.prompts if i is None else made.prompts[i : i + 1]
    seeds = made.seeds if j is None else made.seeds[j : j + 1]
    lines = list(prompts)
    if made.negative_prompt and made.column in (None, "negative prompt"):
        lines.append(f"Negative prompt: {made.negative_prompt}")
    facts = [
        f"Steps: {made.num_inference_steps}",
        f"Sampler: {made.scheduler}",
        f"CFG scale: {made.guidance_scale:g}",
        f"Seed: {' '.join(map(str, seeds))}",
        f"Model hash: {made.base}",
        f"Model: {made.model}",
    ]
    if made.erasure and made.column in (None, "erased"):
        facts += [f"Erasure: {made.erasure}", f"Erasure strength: {made.strength:g}"]
        if made.config:
            facts.append(f"Erased: {'; '.join(t.concept for t in made.config.concepts)}")
    for side, (knob, values) in zip(("Columns", "Rows"), made.axes, strict=False):
        facts.append(f"{side}: {knob} {values}")
    return "\n".join([*lines, ", ".join([*facts, "Version: ESD Lab"])])


def chunks(made: Parameters) -> dict[str, str]:
    """Names and contents of the text chunks."""
    known = json.dumps({"format": FORMAT, **asdict(made)})
    return {"parameters": as_text(made), "esd-lab": known}


def stamp(picture: Image.Image, made: Parameters) -> Image.Image:
    """The picture, carrying its parameters in `info`, from which Gradio writes them too."""
    picture.info.update(chunks(made))
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
    """The parameters of a PNG that this project made.

    Raises:
        ValueError: it is no PNG, too large, carries none, or carries nonsense.
    """
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
        if known.pop("format") != FORMAT or set(known) - {f.name for f in fields(Parameters)}:
            raise ValueError("they are of another version")
        return Parameters(**known)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"the parameters in {path.name} cannot be used: {error}") from error
