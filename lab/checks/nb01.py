"""Exercises of notebook 01, noise and scores."""

from __future__ import annotations

import torch

from esd_core.plane.mixture import ALPHA_BAR, add_noise, noise
from lab.checks import Exercise

TOWARDS, AWAY, SIDE = "towards more data", "away from the data", "along a line of equal density"


def _cases() -> list[tuple]:
    points = [noise(6, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    return [(*points, ALPHA_BAR[t]) for t in (10, 300, 900)]


def _score_cases() -> list[tuple]:
    return [(noise(6, torch.Generator().manual_seed(0)), ALPHA_BAR[t]) for t in (10, 300, 900)]


EXERCISES = {
    "1.1": Exercise(
        answer=add_noise,
        wrong=(
            (
                lambda x, e, a: a * x + (1 - a) * e,
                "Variances add up to one here, so the factors are square roots of these.",
            ),
            (
                lambda x, e, a: (1 - a).sqrt() * x + a.sqrt() * e,
                "The factors are swapped: alpha_bar near 1 must leave the picture clear.",
            ),
            (lambda x, e, a: x + (1 - a).sqrt() * e, "The signal has to shrink as noise comes in."),
        ),
        praise="Signal shrinks as noise grows, and the variance stays where it was.",
        cases=_cases,
    ),
    "1.2": Exercise(
        answer=TOWARDS,
        wrong=(
            (AWAY, "That is where the predicted noise points; the score has the other sign."),
            (SIDE, "A gradient is perpendicular to the lines of equal value."),
        ),
        praise="A gradient of log p points uphill; the noise prediction points the other way.",
    ),
    "1.3": Exercise(
        answer="nothing changes",
        wrong=(
            ("it grows by 5", "The score is a slope. What does a constant do to a slope?"),
            ("it is multiplied", "Adding to log p multiplies p; ask what happens to a slope."),
        ),
        praise="So the score is not a log-probability: it is its slope, one number per pixel.",
    ),
    "1.4": Exercise(
        answer=lambda score, a: -(1 - a).sqrt() * score,
        wrong=(
            (lambda score, a: (1 - a).sqrt() * score, "Check the sign: noise points off the data."),
            (lambda score, a: -(1 - a) * score, "sigma is a standard deviation, not a variance."),
            (lambda score, a: -score / (1 - a).sqrt(), "You went from eps to the score."),
        ),
        praise="Noise prediction and score are one vector, up to a factor that depends on t alone.",
        cases=_score_cases,
    ),
}
