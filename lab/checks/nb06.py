"""Exercises of notebook 06, erase it live."""

from __future__ import annotations

import torch

from lab.checks import Exercise

SAME, CLOSE, BROKEN = "the same, bit for bit", "alike, with small differences", "worse"
NOTHING, EMPTY, PLAIN = (
    "nothing but noise",
    "what the empty prompt draws",
    "a cat, as if there were no guidance",
)


def _weights() -> list[tuple]:
    dice = torch.Generator().manual_seed(0)
    frozen, trained = torch.randn(2, 3, 4, generator=dice).unbind()
    return [(frozen, trained, s) for s in (-1.0, 0.0, 0.5, 2.0)]


EXERCISES = {
    "6.1": Exercise(
        answer=SAME,
        wrong=(
            (CLOSE, "What could differ? The copy has the same weights and starts from one noise."),
            (BROKEN, "A copy with equal weights computes the same sums."),
        ),
        praise="So whatever differs later is the work of the updates, not of the copying.",
    ),
    "6.2": Exercise(
        answer=lambda guidance_scale, eta: -guidance_scale * eta,
        wrong=(
            (lambda w, eta: w * eta, "Away from the concept or towards it? Check the sign."),
            (lambda w, eta: -eta, "That is the target itself; sampling multiplies once more."),
            (lambda w, eta: w, "The edited model does not answer with eps_concept any more."),
            (lambda w, eta: w - eta, "Put the target into the guidance formula; do not subtract."),
            (lambda w, eta: 1 - w * eta, "Count from eps_null: at scale 0 nothing is added to it."),
        ),
        praise="Guidance at sampling multiplies guidance at training: 4 and eta 1 make -4.",
        cases=lambda: [(4.0, 1.0), (7.5, 0.5), (1.0, 3.0)],
    ),
    "6.3": Exercise(
        answer=PLAIN,
        wrong=(
            (NOTHING, "Put both predictions into the formula: what is left of the difference?"),
            (EMPTY, "The negative prompt takes the empty prompt's place. Is it still in the sum?"),
        ),
        praise="c + w (c - c) = c. Guidance is switched off, and the concept is still asked for.",
    ),
    "6.4": Exercise(
        answer=lambda frozen, trained, strength: frozen + strength * (trained - frozen),
        wrong=(
            (
                lambda frozen, trained, s: trained + s * (trained - frozen),
                "At strength 0 this is the erased model already.",
            ),
            (
                lambda frozen, trained, s: frozen - s * (trained - frozen),
                "At strength 1 this must be the trained weights. Check the sign.",
            ),
            (
                lambda frozen, trained, s: s * trained,
                "At strength 0 all weights would be 0, and the model gone.",
            ),
            (
                lambda frozen, trained, s: frozen + s * trained,
                "Add the change, not the trained weights themselves.",
            ),
            (
                lambda frozen, trained, s: (1 - s) * trained + s * frozen,
                "The two ends are swapped: 0 is frozen, 1 is trained.",
            ),
        ),
        praise="A straight line through two models; it does not end at either of them.",
        cases=_weights,
    ),
}
