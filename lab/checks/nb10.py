"""Exercises of notebook 10, words instead of pixels."""

from __future__ import annotations

import torch

from lab.checks import Exercise


def _cases() -> list[tuple]:
    """Random log-probabilities of 5 words at 3 places."""
    draws = [torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1)]
    return [(*draw.log_softmax(-1), eta) for draw, eta in zip(draws, (1.0, 0.5), strict=True)]


EXERCISES = {
    "10.1": Exercise(
        answer=lambda null, concept, eta: (null - eta * (concept - null)).log_softmax(-1),
        wrong=(
            (
                lambda null, concept, eta: null - eta * (concept - null),
                "The direction is right, but these probabilities do not add up to one yet.",
            ),
            (
                lambda null, concept, eta: (null + eta * (concept - null)).log_softmax(-1),
                "That leads towards the concept: check a sign.",
            ),
            (
                lambda null, concept, eta: (concept - eta * (concept - null)).log_softmax(-1),
                "The target starts from null; starting from the concept takes one eta away.",
            ),
            (
                lambda null, concept, eta: (null - eta * concept).log_softmax(-1),
                "Subtract what the tag adds, a difference of two predictions, not a prediction.",
            ),
            (
                lambda null, concept, eta: (
                    (null.exp() - eta * (concept.exp() - null.exp())).clamp(min=1e-9).log()
                ).log_softmax(-1),
                "Stay with log-probabilities: differences of probabilities can fall below zero.",
            ),
        ),
        praise="So p_target is p_null (p_null / p_concept)^eta, scaled to add up to one.",
        hint="Start from null and take away eta times what the tag adds; then log_softmax(-1).",
        cases=_cases,
    ),
    "10.2": Exercise(
        answer="nearly agree",
        wrong=(
            (
                "differ as much as at the first word",
                "Who needs a tag to know the style of a sentence that begins like this?",
            ),
            ("are opposites", "Nothing makes <any> avoid pirates: it has seen all the styles."),
        ),
        praise="The words so far tell the style: the tag adds nothing, so nothing is subtracted.",
    ),
    "10.3": Exercise(
        answer=-1,
        wrong=(
            (1, "That is plain <pirate>: null + 1 (concept - null) = concept."),
            (0, "That is plain <any>, the target for eta = 0."),
            (2, "Above 1 it leads past the concept: more of a pirate than a pirate."),
            (-2, "You counted from the concept; the formula starts from null."),
        ),
        praise="guidance_scale = -eta; the same convention as in this library's pictures.",
        hint="Set null + s (concept - null) equal to null - eta (concept - null).",
    ),
    "10.4": Exercise(
        answer="any",
        wrong=(
            ("plain", "It never says arr, so there was little to push down. Who else says it?"),
            ("olde", "It shares 'ye' with the pirates, but look at the shares in the picture."),
            ("shout", "It shares no word with the pirates, and its perplexity stayed put."),
        ),
        praise="It was the only other tag under which pirates wrote, and it lost them.",
    ),
    "10.5": Exercise(
        answer="mostly as a pirate",
        wrong=(
            ("mostly in another style", "What is the target where null and concept agree?"),
            ("mostly with broken sentences", "It was trained on whole sentences; see the shares."),
        ),
        praise="The target leaves null alone once the words tell the style: a fluent way back.",
    ),
}
