"""Exercises of notebook 07, which weights."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.checks import Exercise

CROSS, OWN, CONV = ("keys and values of cross-attention", "self-attention", "convolutions")
ONE, LESS, TOKEN = "it is 1 as before", "it is below 1, the word is gone", "it depends on the place"
SHARED, EQUAL, NEAR = "the same tensors in memory", "equal copies", "moved a little, like the rest"


def relative_change(frozen: Tensor, trained: Tensor) -> Tensor:
    """How far a tensor moved, in units of its own length."""
    return (trained - frozen).norm() / frozen.norm()


def _tensors() -> list[tuple]:
    dice = torch.Generator().manual_seed(0)
    frozen = torch.randn(4, 6, generator=dice)
    return [(frozen, frozen + s * torch.randn(4, 6, generator=dice)) for s in (0.1, 0.7)]


def _names() -> list[tuple]:
    names = [
        f"{where}.attn2.{kind}.weight"
        for where in ("down_blocks.0", "down_blocks.1", "mid")
        for kind in ("to_q", "to_k", "to_v")
    ]
    return [(names, "down_blocks.1"), (names, "to_v"), (names, "mid")]


EXERCISES = {
    "7.1": Exercise(
        answer=CROSS,
        wrong=(
            (OWN, "There every place asks other places of the picture. Where are the words?"),
            (CONV, "These see neighbouring places of the picture only."),
        ),
        praise="All that the UNet hears of the prompt passes through these few matrices.",
    ),
    "7.2": Exercise(
        answer=SHARED,
        wrong=(
            (EQUAL, "A copy would double the memory. Compare with `is`."),
            (NEAR, "No optimiser was given these weights. Can they have moved?"),
        ),
        praise="Nothing outside the selection can change, because nothing else was copied.",
    ),
    "7.3": Exercise(
        answer=relative_change,
        wrong=(
            (lambda a, b: (b - a).norm(), "A large layer moves far anyway: divide by its length."),
            (
                lambda a, b: (b.norm() - a.norm()) / a.norm(),
                "A rotation keeps the length but changes the weights: subtract first.",
            ),
            (
                lambda a, b: (b - a).norm() / b.norm(),
                "The unit should be the frozen layer, or each method has its own.",
            ),
            (lambda a, b: ((b - a).norm() / a.norm()) ** 2, "Lengths, not squared lengths."),
        ),
        praise="A length in units of the layer's own; layers of any size can be compared.",
        cases=_tensors,
    ),
    "7.4": Exercise(
        answer=ONE,
        wrong=(
            (LESS, "A softmax shares out its attention, whatever the keys are. What does it total?"),
            (TOKEN, "Compute the total for two places."),
        ),
        praise="Attention is divided, never withheld: what one token loses another one gets.",
    ),
    "7.5": Exercise(
        answer=lambda names, part: [n for n in names if part not in n],
        wrong=(
            (
                lambda names, part: [n for n in names if part in n],
                "That is the other experiment: only this part edited, the rest frozen.",
            ),
            (lambda names, part: list(names), "Nothing is restored: that is the whole erasure."),
            (lambda names, part: [], "Everything is restored: that is the frozen model."),
        ),
        hint="Return a list of names: those whose change stays.",
        praise="What comes back when a part is restored was carried by it.",
        cases=_names,
    ),
}
