"""Exercises of notebook 05, one update, then a hundred."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from esd_core import erasing_loss, erasing_target
from lab.checks import Exercise

PHOTO = "a picture of the concept from the training set, noised"
OWN = "noise that a model has partly turned into a picture of the concept"
PURE = "pure noise, whatever t is"
ZERO, ONCE, MORE = "0", "mean(d^2)", "(1 + eta)^2 * mean(d^2)"
LINES = ("optimizer.zero_grad()", "loss.backward()", "optimizer.step()", "loss = esd_loss(...)")

Model = Callable[[Tensor, Tensor, Tensor], Tensor]
Start = Callable[[], tuple[list[nn.Parameter], Callable[[], Tensor]]]


def esd_loss(
    frozen: Model, edited: Model, x_t: Tensor, t: Tensor, concept: Tensor, null: Tensor, eta: float
) -> Tensor:
    """The loss of one update, from the models themselves."""
    target = erasing_target(frozen(x_t, t, null), frozen(x_t, t, concept), eta)
    return erasing_loss(edited(x_t, t, concept), target)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean()


def _wrong_losses() -> tuple[tuple[Callable, str], ...]:
    def target(model: Model, x_t, t, c, null, eta):
        return erasing_target(model(x_t, t, null), model(x_t, t, c), eta)

    return (
        (
            lambda f, e, x, t, c, n, eta: _squared(f(x, t, c), target(e, x, t, c, n, eta)),
            "The two models are swapped: the one that learns gives the left side.",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(f(x, t, c), target(f, x, t, c, n, eta)),
            "Everything here is frozen, so nothing can learn. Which prediction must move?",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(e(x, t, c), target(e, x, t, c, n, eta)),
            "A target that the learner computes itself moves with every update. Who stands still?",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(e(x, t, n), target(f, x, t, c, n, eta)),
            "This retrains the empty prompt. Under which prompt should the answer change?",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(e(x, t, c), target(f, x, t, c, n, -eta)),
            "The sign is turned: this makes the concept stronger.",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(e(x, t, c), f(x, t, n)),
            "That is eta = 0: it forgets the concept but does not push away from it.",
        ),
        (
            lambda f, e, x, t, c, n, eta: _squared(e(x, t, c), x),
            "Nothing is reconstructed: the loss compares two noise predictions, never x_t.",
        ),
        (
            lambda f, e, x, t, c, n, eta: (e(x, t, c) - target(f, x, t, c, n, eta)).square().sum(),
            "The two sides are right. Take the mean of the squares, not their sum.",
        ),
    )


def _toys() -> list[tuple]:
    """Two models that can be told apart, as functions; x_t, t, two prompts and eta."""

    def toy(gain: float) -> Model:
        return lambda x_t, t, embeds: torch.sin(gain * x_t + embeds.mean()) + t / 1000

    dice = torch.Generator().manual_seed(0)
    x_t = torch.randn(2, 4, 4, 4, generator=dice)
    concept, null = torch.full((1, 3, 2), 0.7), torch.zeros(1, 3, 2)
    t = torch.tensor(500)
    return [(toy(1.0), toy(1.3), x_t, t, concept, null, eta) for eta in (1.0, 2.5)]


def _descent(order: tuple[str, ...]) -> Callable:
    """`descend` with these of its lines, in this order."""

    def descend(start: Start, updates: int, learning_rate: float = 1e-4) -> list[Tensor]:
        parameters, loss_of = start()
        optimizer = torch.optim.Adam(parameters, lr=learning_rate)
        for _ in range(updates):
            loss = loss_of()
            lines = {"zero": optimizer.zero_grad, "backward": loss.backward, "step": optimizer.step}
            for line in order:
                lines[line]()
        return [p.detach() for p in parameters]

    return descend


def _problems() -> list[tuple]:
    """A bowl with one side steeper than the other; 1 update and 5."""

    def start() -> tuple[list[nn.Parameter], Callable[[], Tensor]]:
        w = nn.Parameter(torch.tensor([2.0, -3.0]))
        return [w], lambda: (torch.tensor([1.0, 5.0]) * w.square()).sum()

    return [(start, 1, 0.5), (start, 5, 0.5)]


STILL = "The weights have not moved: they need gradients that are still there when someone walks."

EXERCISES = {
    "5.1": Exercise(
        answer=OWN,
        wrong=(
            (PHOTO, "The loop opens no file. Count the data sets in the cell above."),
            (PURE, "That is right for t = 981 only; look at the later ones in the picture."),
        ),
        praise="No data set is involved: the model draws its own practice material.",
    ),
    "5.2": Exercise(
        answer=esd_loss,
        wrong=_wrong_losses(),
        hint="Three predictions at one x_t: two of the frozen model, one of the edited one.",
        praise="The frozen model makes the target; the edited one learns, for the same prompt.",
        cases=_toys,
    ),
    "5.3": Exercise(
        answer=MORE,
        wrong=(
            (ZERO, "The models are equal, so eps_edited = eps_concept. Is that the target?"),
            (ONCE, "That is the way from eps_concept to eps_null. The target lies beyond it."),
        ),
        praise="From eps_concept to eps_null is one d, and eta more beyond it.",
    ),
    "5.4": Exercise(
        answer=LINES[2],
        wrong=(
            (LINES[0], "It forgets the last update's gradients; the weights stay."),
            (LINES[1], "It only fills in .grad, the direction. Who walks?"),
            (LINES[3], "That computes a number. Weights do not change by being used."),
        ),
        praise="backward finds the direction, step walks.",
    ),
    "5.5": Exercise(
        answer=_descent(("zero", "backward", "step")),
        wrong=(
            (
                _descent(("backward", "step")),
                "The first update is right, later ones are not: old gradients are still there.",
            ),
            (_descent(("zero", "backward")), STILL),
        ),
        hint="Three lines, once per loss: forget, differentiate, walk.",
        praise="These three lines are all there is to any fine-tuning.",
        cases=_problems,
    ),
}
