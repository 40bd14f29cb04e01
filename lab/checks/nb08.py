"""Exercises of notebook 08, editing in closed form against fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor

from lab.checks import Exercise


def _draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _cases() -> list[tuple]:
    """A matrix, a state and what it shall become."""
    return [(_draw(3, 5, seed=s), _draw(5, seed=s + 10), _draw(3, seed=s + 20)) for s in (0, 1)]


def _moment_cases() -> list[tuple]:
    """The same, and the second moments of all states."""
    states = _draw(40, 5, seed=30) * torch.tensor([3.0, 1, 1, 0.5, 2])
    return [(*case, states.T @ states / 40) for case in _cases()]


def rank_one(W: Tensor, c: Tensor, v: Tensor) -> Tensor:
    """The smallest change of W after which W c = v."""
    return W + torch.outer(v - W @ c, c) / (c @ c)


def rome(W: Tensor, c: Tensor, v: Tensor, C: Tensor) -> Tensor:
    """The change after which W c = v that moves the states behind C least."""
    k = torch.linalg.solve(C, c)
    return W + torch.outer(v - W @ c, k) / (k @ c)


def share(c: Tensor, other: Tensor) -> Tensor:
    """How much of c's move another state makes after the rank-one update for c."""
    return (c @ other) / (c @ c)


OVERLAP = "in proportion to its overlap with the cat's state"
EMPTY, PUSHED, NOISE = (
    "what it predicts for the empty prompt",
    "the erasing target with eta = 1",
    "noise without any structure",
)
PLACED = "placed, then trained"
BARE, PRESERVED, FINE_TUNED = ("edit, nothing preserved", "edit, others preserved", "ESD, others preserved")

EXERCISES = {
    "8.1": Exercise(
        answer=rank_one,
        wrong=(
            (
                lambda W, c, v: W + torch.outer(v - W @ c, c),
                "Right direction, wrong length: after it, W c overshoots v by the factor |c|^2.",
            ),
            (
                lambda W, c, v: W + torch.outer(v - W @ c, c) / c.norm(),
                "Apply your matrix to c: c c^T c is |c|^2 times c, and you divide by |c| only.",
            ),
            (
                lambda W, c, v: W + torch.outer(v, c) / (c @ c),
                "This adds v to what W says already. Add only what is missing.",
            ),
            (
                lambda W, c, v: torch.outer(v, c) / (c @ c),
                "This maps c to v and forgets all the rest of W. Change W, do not replace it.",
            ),
        ),
        praise="Among all matrices with W' c = v this one is the closest to W.",
        cases=_cases,
    ),
    "8.2": Exercise(
        answer=OVERLAP,
        wrong=(
            (
                "not at all: only the cat was edited",
                "A matrix cannot treat one vector alone; put "
                "another state into (v - W c) c^T and see what is left.",
            ),
            ("exactly as much as the cat", "That would need the two states to be equal."),
        ),
        praise="A linear map cannot tell the cat apart from whatever shares its direction.",
    ),
    "8.3": Exercise(
        answer=rome,
        wrong=(
            (
                lambda W, c, v, C: rank_one(W, c, v),
                "That is the update of 8.1; it does not look at other states. Where does C go?",
            ),
            (
                lambda W, c, v, C: W + torch.outer(v - W @ c, torch.linalg.solve(C, c)) / (c @ c),
                "After yours, W c is not v: the denominator must undo what the new direction does to c.",
            ),
            (
                lambda W, c, v, C: W + torch.outer(v - W @ c, C @ c) / (c @ C @ c),
                "You multiply by C, which prefers directions that other states use. Avoid those.",
            ),
        ),
        praise="Directions that other states use much are spared; this is equation 2 of ROME.",
        cases=_moment_cases,
    ),
    "8.4": Exercise(
        answer=EMPTY,
        wrong=(
            (PUSHED, "That needs a push beyond the empty prompt. The edit stops where?"),
            (NOISE, "Keys and values are all that a UNet sees of a prompt. Whose does it get now?"),
        ),
        praise="So this edit is the erasing target with eta = 0, reached without one update.",
    ),
    "8.5": Exercise(
        answer=1.0,
        wrong=(
            (2.0, "Strength counts from W, eta from the empty prompt. What is eta at strength 1?"),
            (0.0, "That is strength 1, where the concept lands on the empty prompt itself."),
            (-1.0, "Strength 0, the frozen model, is eta -1. Go on from there."),
        ),
        praise="Strength 1 + eta. Only keys and values follow this line exactly; the prediction, "
        "which is not linear in them, follows it roughly.",
    ),
    "8.6": Exercise(
        answer=PRESERVED,
        wrong=(
            (BARE, "Nothing in its sum speaks for a tiger, and you have seen their overlap."),
            (FINE_TUNED, "It holds the same prompts, but follow its curve to the dashed line."),
        ),
        praise="It was told what to keep, and one solve finds the best compromise.",
    ),
    "8.7": Exercise(
        answer=PLACED,
        wrong=(
            (PRESERVED, "None of its sixteen phrases is a sentence with a style."),
            (FINE_TUNED, "It was gentlest there of two. What would it do with one direction to move in?"),
        ),
        praise="Placed by the states of everything that shall stay, its content learned by ESD's loss.",
    ),
}
