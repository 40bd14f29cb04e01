"""Exercises of notebook 04, the erasing target."""

from __future__ import annotations

import torch

from esd_core.objective import erasing_target
from esd_core.plane.mixture import noise
from lab.checks import Exercise

EDITED, ALL, FROZEN = (
    "e_n alone",
    "all three: they share their weights",
    "none: e_n comes from the frozen model, as e_0 and e_p do",
)
DENOISING, ERASING, BOTH, NEITHER = (
    "the usual denoising loss only",
    "the erasing loss only",
    "both",
    "neither",
)
SPREAD, OUTSIDE, MIDDLE, SHRUNK = (
    "at 2, on the two other classes",
    "near 5, where no data are",
    "at 0, in the middle",
    "at 2, on all three classes as before",
)


def _cases() -> list[tuple]:
    null, concept = (noise(4, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    return [(null, concept, eta) for eta in (0.0, 0.5, 1.0, 3.0)]


def _posteriors() -> list[tuple]:
    return [(torch.tensor(p, dtype=torch.float64),) for p in (0.0, 0.1, 1 / 3, 0.5, 0.9)]


EXERCISES = {
    "4.1": Exercise(
        answer=erasing_target,
        wrong=(
            (
                lambda null, concept, eta: null + eta * (concept - null),
                "That is guidance towards the concept: the model would learn to draw it harder.",
            ),
            (
                lambda null, concept, eta: concept - eta * (concept - null),
                "That is centred on eps_concept, as the authors' 2025 script is: at eta 1 it only "
                "gets to eps_null. The paper starts from there.",
            ),
            (
                lambda null, concept, eta: -eta * (concept - null),
                "The step is right, but from where? At eta 0 the target has to be eps_null.",
            ),
            (
                lambda null, concept, eta: concept - null,
                "That is the direction; the target is a prediction, and eta is missing.",
            ),
        ),
        praise="At eta 0 the concept means nothing; above 0 it means: away from it.",
        cases=_cases,
    ),
    "4.2": Exercise(
        answer=EDITED,
        wrong=(
            (FROZEN, "Then no weight could ever change. The n reads like 'negative', hence the error."),
            (ALL, "Look at the table: two of them carry no gradient and did not move."),
        ),
        praise="The frozen model sets the target; the trained one is moved onto it.",
    ),
    "4.3": Exercise(
        answer=DENOISING,
        wrong=(
            (ERASING, "Look at its arguments: x_t, t and the class. Is a clean point among them?"),
            (BOTH, "One of the two numbers did not change."),
            (NEITHER, "One of the two numbers changed."),
        ),
        praise="The target is made of predictions. Nothing is compared with data, or with a "
        "reconstruction of data; data can only decide which x_t are asked about.",
    ),
    "4.4": Exercise(
        answer=OUTSIDE,
        wrong=(
            (SPREAD, "That would be the data without class 0. Look where the points are."),
            (MIDDLE, "The middle is as close to class 0 as it is to the others. Look again."),
            (SHRUNK, "That is eta 0."),
        ),
        praise="The step away from class 0 is made everywhere, also where there was nothing of it to avoid.",
    ),
    "4.5": Exercise(
        answer=lambda p: p / (1 - p),
        wrong=(
            (lambda p: p, "Close for small p. But the rest has to be divided by its own share."),
            (lambda p: (1 - p) / p, "Upside down: where p is 0 there is nothing to take away."),
            (lambda p: 1 / (1 - p), "At p = 0 yours still pushes; there eta has to be 0."),
            (lambda p: torch.ones_like(p), "That is the constant one. What does it do at p = 0?"),
            (lambda p: -p / (1 - p), "The minus stands in the target already."),
        ),
        praise="The odds of class 0: no push where it is absent, a strong one inside it.",
        hint="Solve e_0 = p * e_p + (1 - p) * e_rest for e_rest, and write it as e_0 - eta * (e_p - e_0).",
        cases=_posteriors,
    ),
}
