"""Proof that a comparison compares: what each column's first step was given, and what 0 does.

Nothing here is a promise: every badge is computed for the comparison beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel

from esd_core import Comparison, DiffusionModel, Erasure
from esd_core.sampling import sample


class Badge(NamedTuple):
    """A claim about a comparison."""

    holds: bool
    claim: str
    how: str  # it was checked


def badges(
    model: DiffusionModel,
    erasure: Erasure,
    strength: float,
    edited: UNet2DConditionModel,
    made: Comparison,
    **options: Any,
) -> list[Badge]:
    """The same noise, strength 0 is the base model, how much differs.

    The column "erased" was drawn by `edited`, at `strength`, and all of them with these options of `sample`.
    """
    zero, hashes = erasure.apply(model, 0.0), list(dict.fromkeys(made.starts.values()))
    places = [(prompt, seed) for prompt in made.prompts for seed in made.seeds]
    base, at_zero = (
        next(sample(model, [p for p, _ in places], seeds=[s for _, s in places], unet=unet, **options))
        for unet in (model.unet, zero)
    )
    zeroed = not _changed(model, zero) and torch.equal(at_zero.output_guided, base.output_guided)
    tensors, total = _changed(model, edited), len(list(model.unet.parameters()))
    same = f"the same noise starts all {len(made.starts)} columns"
    return [
        Badge(
            len(hashes) == 1,
            same if len(hashes) == 1 else f"{same}: {', '.join(hashes)}",
            "SHA-256 of the latents that the first step of each column was given, as it was drawn",
        ),
        Badge(
            zeroed,
            "strength 0 is the base model, number for number",
            "every tensor of the UNet, and the first step's guided prediction for these pictures",
        ),
        Badge(
            bool(tensors) or strength == 0,
            f"{len(tensors)} of {total} tensors differ",
            f"the UNet of the column erased, at strength {strength:g}, against the base",
        ),
    ]


def _changed(model: DiffusionModel, unet: UNet2DConditionModel) -> list[str]:
    """Names of the parameters whose numbers differ from the frozen model's."""
    frozen = dict(model.unet.named_parameters())
    return [n for n, p in unet.named_parameters() if p is not frozen[n] and not p.equal(frozen[n])]


def html(found: Sequence[Badge]) -> str:
    """A list for the page; a claim that fails says so."""
    items = "".join(
        f'<li class="{"esd-holds" if holds else "esd-fails"}" title="{escape(how)}">'
        f"<b>{'Checked' if holds else 'Does not hold'}</b> {escape(claim)}"
        f"<small>{escape(how)}</small></li>"
        for holds, claim, how in found
    )
    return f'<ul class="esd-badges">{items}</ul>'
