"""Predict first: where the samples of the erased class land, the choices, and what to say of each.

The right answer is not written down: it is read off the samples themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from torch import Tensor

from ui.mixture.class_text import Classes

QUESTION = "Predict first: {name} is erased, then asked for. Where do the samples land?"


class Answer(NamedTuple):
    """One of the choices, what is behind it where it is wrong, and why the samples give it."""

    choice: str
    wrong: str
    right: str


STAYS, ALL, OTHERS, PAST = "stays", "all", "others", "past"
ANSWERS = {  # push is η times guidance
    STAYS: Answer(
        "On {name} still, only less of it",
        "The target is not a weaker ε<sub>{name}</sub>: it starts at ε<sub>null</sub> and goes −η times the "
        "way to ε<sub>{name}</sub>, which for η above 0 is away from {name}.",
        "With η times guidance = {push:g} the samples are still drawn to {name}.",
    ),
    ALL: Answer(
        "On all classes, as if nothing had been asked for",
        "That is η = 0, or guidance 0: the model then answers as if it had been told nothing. Here the "
        "samples follow ε<sub>null</sub> − {push:g} (ε<sub>{name}</sub> − ε<sub>null</sub>).",
        "With η times guidance = {push:g} little or nothing is added to ε<sub>null</sub>.",
    ),
    OTHERS: Answer(
        "On the other classes, as if {name} had never been among the data",
        "That is what training without {name} would give, and what erasing is often taken for. But the "
        "target is no score of the remaining data; it adds a push away from {name} to ε<sub>null</sub>.",
        "The push, η times guidance = {push:g}, outweighs the pull to {name} and leaves most samples "
        "within reach of the other classes.",
    ),
    PAST: Answer(
        "Past the other classes, where no data ever were",
        "For that the push, η times guidance = {push:g}, is too weak here: ε<sub>null</sub>, which pulls "
        "back to the data, wins.",
        "The push away from {name} does not stop where the data stop.",
    ),
}


@dataclass(frozen=True)
class Ends:
    """Where samples of a class ended, in numbers."""

    share: float  # nearest the class's mean
    radius: float  # median distance from the middle of the data
    far: float  # share beyond 3 spreads of every class

    @classmethod
    def of(cls, classes: Classes, concept: int, x: Tensor) -> Ends:
        """Of samples `(N, 2)`."""
        share = (classes.mixture.nearest(x) == concept).double().mean()
        radius = (x - classes.middle).norm(dim=1).median()
        return cls(share.item(), radius.item(), classes.far(x).double().mean().item())


def choices(name: str) -> list[tuple[str, str]]:
    """(text, value) of the answers."""
    return [(answer.choice.format(name=name), value) for value, answer in ANSWERS.items()]


def outcome(classes: Classes, concept: int, ends: Ends) -> str:
    """Which answer the samples give."""
    weight = float(classes.mixture.weights[concept])
    if ends.far > 0.5:
        return PAST
    if ends.share > (1 + weight) / 2:
        return STAYS
    return OTHERS if ends.share < weight / 2 else ALL


def feedback(classes: Classes, concept: int, chosen: str, ends: Ends, push: float) -> tuple[bool, str]:
    """Whether the choice was right, and HTML: what was wrong with it, then the facts."""
    found, about = outcome(classes, concept, ends), dict(name=escape(classes.names[concept]), push=push)
    opening = "Right." if chosen == found else f"Not so. {ANSWERS[chosen].wrong.format(**about)}"
    numbers = (
        f"{ends.share:.1%} end nearest {about['name']}, {ends.far:.0%} farther than 3 spreads from every "
        f"class; their median distance from the middle of the data is {ends.radius:.1f}."
    )
    return chosen == found, f"{opening} {numbers} {ANSWERS[found].right.format(**about)}"
