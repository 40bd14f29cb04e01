"""The same noise through several models: base, erased, base with a negative prompt.

A comparison is fair if nothing but the weights, or the negative prompt, differs; `noise_hash` says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core.models import DiffusionModel
from esd_core.sampling import Step, finish, generating, noise


@dataclass(frozen=True, eq=False)
class Comparison:
    """Pictures by column, each `(prompts, seeds, 3, H, W)` in [0, 1]."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    columns: dict[str, Tensor]  # column name -> pictures
    noise_hash: str  # of the starting noise, one latent per seed
    starts: dict[str, str] = field(default_factory=dict)  # column -> hash of its first latents: all equal


class At(NamedTuple):
    """How far a comparison is."""

    column: str
    step: int  # denoising steps made in it


def noise_hash(latents: Tensor) -> str:
    """Eight hex digits of the starting noise."""
    return hashlib.sha256(latents.float().cpu().numpy().tobytes()).hexdigest()[:8]


def compare(
    model: DiffusionModel,
    edited: UNet2DConditionModel | None,
    prompts: str | Sequence[str],
    seeds: Sequence[int],
    **options: Any,
) -> Comparison:
    """Draw every prompt with every seed, in each column.

    Args:
        model: the frozen model, column "base".
        edited: an edited UNet, column "erased"; None leaves the column out.
        prompts: what to draw, one prompt or several.
        seeds: the starting noises, 0 to 2**32 - 1.
        options: negative_prompt, the concept, adds the column "negative prompt"; of `sample`: guidance_scale
            (default 4), num_inference_steps (default 20), scheduler (default "ddim"), image_size (pixels).

    Raises:
        ValueError: there is no prompt or no seed, or `sample` refuses an option.
    """
    return finish(comparing(model, edited, prompts, seeds, **options))


def comparing(
    model: DiffusionModel,
    edited: UNet2DConditionModel | None,
    prompts: str | Sequence[str],
    seeds: Sequence[int],
    *,
    negative_prompt: str | None = None,
    **options: Any,
) -> Generator[At, None, Comparison]:
    """The steps of `compare`: yields where it is after each, and returns the comparison."""
    prompts, seeds = [prompts] if isinstance(prompts, str) else list(prompts), list(seeds)
    if not prompts or not seeds:
        raise ValueError("give at least one prompt and one seed to compare")
    runs: dict[str, dict[str, Any]] = {"base": {}}
    if edited is not None:
        runs["erased"] = {"unet": edited}
    if negative_prompt is not None:
        runs["negative prompt"] = {"negative_prompt": negative_prompt}
    columns, starts = dict[str, Tensor](), dict[str, str]()

    def seen(column: str, step: Step) -> At:
        starts[column] = starts.get(column) or noise_hash(step.x_t)
        return At(column, step.step + 1)

    every, noises = [p for p in prompts for _ in seeds], seeds * len(prompts)
    for name, own in runs.items():
        pictures = yield from generating(
            model, every, partial(seen, name), seeds=noises, **{**options, **own}
        )
        columns[name] = pictures.unflatten(0, (len(prompts), len(seeds)))
    start = noise(model, seeds, options.get("image_size"))
    return Comparison(tuple(prompts), tuple(seeds), columns, noise_hash(start), starts)
