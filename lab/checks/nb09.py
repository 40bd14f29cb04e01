"""Exercises of notebook 09, whether an erased concept is gone."""

from __future__ import annotations

import torch
from torch import Tensor

from esd_core.plane.mixture import ALPHA_BAR
from lab.checks import Exercise


def _edited(x_t: Tensor, t: Tensor, states: Tensor) -> Tensor:
    """Any function of all three serves to tell losses apart."""
    return 0.5 * x_t + states.mean() * torch.cos(t.to(x_t) / 100 + x_t)


def _cases() -> list[tuple]:
    cases = []
    for seed, t in ((0, 50), (1, 800)):
        random = torch.Generator().manual_seed(seed)
        x_0, eps = (torch.randn(2, 4, 3, 3, generator=random) for _ in range(2))
        states = torch.randn(1, 4, 5, generator=random) + 1
        cases.append((_edited, x_0, eps, ALPHA_BAR[t].float(), torch.tensor(t), states))
    return cases


def _noised(x_0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * eps


def inversion_loss(edited, x_0, eps, alpha_bar, t, states):  # noqa: ANN001, ANN201
    """What a learned word minimises: how badly the edited model explains noised pictures."""
    return (edited(_noised(x_0, eps, alpha_bar), t, states) - eps).square().mean()


ALL, PHRASE, NONE = (
    "less and less of the cat",
    "the cat again, because guidance strengthens whatever the prompt names",
    "the same as at guidance 1: the weights are what they are",
)
STAYS, BECOMES, NOISE = (
    "still the cat: the picture says what it is",
    "no cat: the model cannot draw one any more",
    "an empty picture, as nothing is asked for",
)
STATES, UNET, ENCODER = (
    "the text states",
    "the weights of the edited UNet",
    "the weights of the text encoder",
)

EXERCISES = {
    "9.1": Exercise(
        answer=ALL,
        wrong=(
            (
                PHRASE,
                "Guidance multiplies eps_edited - eps_null. Where does that point after "
                "training towards eps_null - eta (eps_concept - eps_null)?",
            ),
            (NONE, "Guidance multiplies a difference, and the difference is not zero."),
        ),
        praise="The scales multiply: sampling at w an edit that learned eta pushes w * eta away.",
    ),
    "9.2": Exercise(
        answer=STAYS,
        wrong=(
            (BECOMES, "Nothing in this prompt was edited. What does the UNet still know of x_t?"),
            (NOISE, "The empty prompt draws whatever is likely at this x_t, and x_t is half done."),
        ),
        praise="The edit sits where words enter. A picture that needs no word goes around it.",
    ),
    "9.3": Exercise(
        answer=inversion_loss,
        wrong=(
            (
                lambda edited, x_0, eps, a, t, states: (
                    (edited(_noised(x_0, eps, a), t, states) - x_0).square().mean()
                ),
                "The UNet predicts the noise, so compare it with eps.",
            ),
            (
                lambda edited, x_0, eps, a, t, states: (edited(x_0, t, states) - eps).square().mean(),
                "The UNet is given x_t, not x_0: there is no noise in a clean picture to find.",
            ),
            (
                lambda edited, x_0, eps, a, t, states: (
                    (edited(_noised(x_0, eps, a), t, states) - eps).square().sum()
                ),
                "The terms are right; take their mean, so that the size of the batch drops out.",
            ),
            (
                lambda edited, x_0, eps, a, t, states: (
                    -(edited(_noised(x_0, eps, a), t, states) - eps).square().mean()
                ),
                "A loss is made small. Yours is smallest where the fit is worst.",
            ),
        ),
        praise="It is the loss the model was once trained with; only what learns is another thing.",
        cases=_cases,
    ),
    "9.4": Exercise(
        answer=STATES,
        wrong=(
            (UNET, "That would be fine-tuning, which comes below. Inversion leaves the model be."),
            (ENCODER, "What reads prompts is left alone, too. Which argument of `edited` is free?"),
        ),
        praise="All weights stay as the eraser left them; only what goes in is searched.",
    ),
    "9.5": Exercise(
        answer=-1.0,
        wrong=(
            (0.0, "That is eps_null: the phrase would come to mean nothing, not a cat."),
            (1.0, "That is erasing itself. Solve eps_null - eta (eps_concept - eps_null) = eps_concept."),
            (-2.0, "That overshoots: it is guidance 2 as a target. Solve for eta once more."),
        ),
        praise="Erasing run backwards: the same pairs, the other sign.",
    ),
}
