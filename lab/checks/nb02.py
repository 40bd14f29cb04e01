"""Exercises of notebook 02, two predictions."""

from __future__ import annotations

import torch
from torch import Tensor

from esd_core.plane.mixture import ALPHA_BAR, noise, ring
from lab.checks import Exercise

OWN, NEAREST, NOWHERE = (
    "towards the middle of class 0, from wherever it stands",
    "towards the nearest cluster",
    "nowhere: there is nothing of class 0 near",
)
LOG_POSTERIOR, LOG_P, LOG_PRIOR = "log p(c given x_t)", "log p(x_t)", "log p(c)"
NULL, CONCEPT, BOTH, NEITHER = (
    "the unconditional score only",
    "the conditional score only",
    "both",
    "neither: both models are as good as before",
)
ONE, TWO, DATA = ("one frozen model, asked twice", "two models, trained apart", "a model and the data set")


def mean_of(posterior: Tensor, scores: Tensor) -> Tensor:
    """`(N, K)` and `(N, K, 2)` -> `(N, 2)`."""
    return (posterior[:, :, None] * scores).sum(dim=1)


def _cases() -> list[tuple]:
    world, x_t = ring(), 2 * noise(6, torch.Generator().manual_seed(0))
    levels = [ALPHA_BAR[t] for t in (100, 400, 800)]
    return [
        (world.posterior(x_t, a), torch.stack([world.score(x_t, a, k) for k in range(3)], dim=1))
        for a in levels
    ]


EXERCISES = {
    "2.1": Exercise(
        answer=OWN,
        wrong=(
            (NEAREST, "That is what the score without a class does. This one was told the class."),
            (NOWHERE, "Its density is tiny there, but the slope of log p is not: it even grows."),
        ),
        praise="Told the class, it knows no other: every point is a noised member of class 0.",
    ),
    "2.2": Exercise(
        answer=mean_of,
        wrong=(
            (
                lambda p, s: s.mean(dim=1),
                "All classes count the same in yours. But x_t itself says which are likely.",
            ),
            (lambda p, s: s.sum(dim=1), "A mean needs weights that sum to one."),
            (
                lambda p, s: s[torch.arange(len(s)), p.argmax(dim=1)],
                "You let the likeliest class decide alone; the others have their share too.",
            ),
            (
                lambda p, s: p.log()[:, :, None].mul(s).sum(dim=1),
                "Weigh with probabilities, not with their logarithms.",
            ),
        ),
        praise="The unconditional score is the conditional ones, each as loud as it is likely.",
        hint="Shapes: posterior is (N, K), scores (N, K, 2), the answer (N, 2).",
        cases=_cases,
    ),
    "2.3": Exercise(
        answer=LOG_POSTERIOR,
        wrong=(
            (LOG_P, "That slope is the unconditional score, which was just subtracted."),
            (LOG_PRIOR, "It does not depend on x_t, so its slope is zero."),
        ),
        praise="Bayes' rule, differentiated: the difference climbs towards what a classifier "
        "would call class 0, though nobody trained a classifier.",
    ),
    "2.4": Exercise(
        answer=NULL,
        wrong=(
            (CONCEPT, "Inside class 0 nothing was changed, and that is all this one is about."),
            (BOTH, "One of them is about a single class. Did anything change inside a class?"),
            (NEITHER, "If it measured quality it would have stayed. Look at the two pictures."),
        ),
        praise="Both models are exact, and yet it moved: it says which data are common, here and "
        "at this t. It does not grade the model.",
    ),
    "2.5": Exercise(
        answer=ONE,
        wrong=(
            (TWO, "Look at what predict_pair is given: how many UNets are there?"),
            (DATA, "Look at the cell above: which argument could be a picture from a data set?"),
        ),
        praise="One set of weights, two prompts, the same x_t and t.",
    ),
}
