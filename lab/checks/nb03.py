"""Exercises of notebook 03, guidance."""

from __future__ import annotations

import torch

from esd_core.denoise import guide
from esd_core.plane.mixture import noise
from lab.checks import Exercise

OUT_NARROW, SAME_NARROW, SAME, OUT_WIDE = (
    "further out, and narrower",
    "where it was, and narrower",
    "where it was, as wide as it was",
    "further out, and wider",
)
GROWS, STAYS, FALLS = "rises towards 100%", "stays where it is, at 100%", "falls"
PLAIN, GONE, STRONGER = ("the same as 'a cat' without guidance", "anything but a cat", "a stronger cat")


def _cases() -> list[tuple]:
    null, cond = (noise(4, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    return [(null, cond, scale) for scale in (0.0, 1.0, 3.0, 7.5, -1.0)]


EXERCISES = {
    "3.1": Exercise(
        answer=guide,
        wrong=(
            (
                lambda null, cond, s: cond + s * (cond - null),
                "That is the other convention: at scale 0 yours gives the conditional prediction.",
            ),
            (
                lambda null, cond, s: null + s * (null - cond),
                "You walk away from the condition: check the order of the difference.",
            ),
            (
                lambda null, cond, s: null + s * cond,
                "Only the difference is scaled. Try scale 1: it has to give cond.",
            ),
            (
                lambda null, cond, s: (1 - s) * cond + s * null,
                "The two are swapped: scale 0 has to give null, scale 1 cond.",
            ),
        ),
        praise="0 is unconditional, 1 conditional; above 1 goes past it, below 0 the other way.",
        cases=_cases,
    ),
    "3.2": Exercise(
        answer=lambda w: w + 1,
        wrong=(
            (lambda w: w, "Put w = 0 into the first formula. What is left, and which scale is it?"),
            (lambda w: w - 1, "That is the way back, from our scale to the paper's w."),
            (lambda w: 1 / (w + 1), "Collect what stands before eps_cond: nothing is divided."),
        ),
        praise="Same line, counted from the conditional prediction instead of the other one.",
        cases=lambda: [(0.0,), (0.5,), (2.0,), (6.5,)],
    ),
    "3.3": Exercise(
        answer=OUT_NARROW,
        wrong=(
            (SAME_NARROW, "So a sharpened p(x given c) would look. Compare the printed means."),
            (SAME, "So p(x) p(c given x)^3 would look, nearly. Compare the printed means."),
            (OUT_WIDE, "You have the mean right; look at the spread."),
        ),
        praise="It overshoots the class and loses variety, both at once.",
    ),
    "3.4": Exercise(
        answer=STAYS,
        wrong=(
            (GROWS, "At scale 1 the model is already told the class. Where do its samples land?"),
            (FALLS, "Look at the second number of each row."),
        ),
        praise="The condition has chosen the class before guidance does anything; guidance moves "
        "samples within it and out of it.",
    ),
    "3.5": Exercise(
        answer=PLAIN,
        wrong=(
            (GONE, "Put eps_negative = eps_cond into the formula. What is left?"),
            (STRONGER, "The difference that the scale multiplies is zero here."),
        ),
        praise="The difference cancels, the scale has no say, and the concept is drawn: a negative "
        "prompt steers one call, it removes nothing from the model.",
    ),
}
