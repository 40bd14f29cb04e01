"""Proof that a comparison compares: what each column's first step was given, and what 0 does.

Nothing here is a promise: every badge is computed for the comparison beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from esd_core import Comparison, DiffusionModel, Erasure
from esd_core.sampling import Step, sample


def first_step(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    **options: Any,
) -> Step:
    """The first denoising step of a column."""
    listed = [p for p in prompts for _ in seeds]
    return next(
        sample(model, listed, seeds=list(seeds) * len(prompts), unet=unet, keep_pair=False, **options)
    )


def changed(model: DiffusionModel, unet: UNet2DConditionModel) -> list[str]:
    """Names of the parameters whose numbers differ from the frozen model's."""
    frozen = dict(model.unet.named_parameters())
    return [n for n, p in unet.named_parameters() if p is not frozen[n] and not p.equal(frozen[n])]


def badges(
    model: DiffusionModel,
    erasure: Erasure,
    strength: float,
    edited: UNet2DConditionModel,
    made: Comparison,
    **options: Any,
) -> list[tuple[bool, str, str]]:
    """Whether each claim holds, its short form, and how it was checked.

    Args:
        strength: of the column "erased".
        edited: the UNet that drew it.
        options: of `sample`, as the comparison used them.
    """
    zero = erasure.apply(model, 0.0)
    hashes = list(dict.fromkeys(made.starts.values()))
    same = f"the same noise starts all {len(made.starts)} columns"
    base, at_zero = (
        first_step(model, unet, made.prompts, made.seeds, **options) for unet in (model.unet, zero)
    )
    tensors, everything = changed(model, edited), dict(model.unet.named_parameters())
    numbers = sum(everything[n].numel() for n in tensors)
    total = sum(p.numel() for p in everything.values())
    zeroed = not changed(model, zero) and torch.equal(at_zero.output_guided, base.output_guided)
    return [
        (
            len(hashes) == 1,
            same if len(hashes) == 1 else f"{same}: {', '.join(hashes)}",
            "SHA-256 of the latents that the first step of each column was given, as it was drawn",
        ),
        (
            zeroed,
            "strength 0 is the base model, number for number",
            "every tensor of the UNet, and the first step's guided prediction for these pictures",
        ),
        (
            bool(tensors) or strength == 0,
            f"{len(tensors)} of {len(everything)} tensors differ, {numbers:,} of {total:,} numbers",
            f"the UNet of the column erased, at strength {strength:g}, against the base",
        ),
    ]


def html(found: Sequence[tuple[bool, str, str]]) -> str:
    """A list for the page; a claim that fails says so."""
    items = "".join(
        f'<li class="{"esd-holds" if holds else "esd-fails"}" title="{escape(how)}">'
        f"<b>{'Checked' if holds else 'Does not hold'}</b> {escape(claim)}"
        f"<small>{escape(how)}</small></li>"
        for holds, claim, how in found
    )
    return f'<ul class="esd-badges">{items}</ul>'
