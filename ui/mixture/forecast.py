"""Predict first: where the samples of the erased class land, the choices, and what to say of each.

The right answer is not written down: it is read off the samples themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from torch import Tensor

from ui.mixture.class_text import World

STAYS, ALL, OTHERS, PAST = "stays", "all", "others", "past"


@dataclass(frozen=True)
class Ends:
    """Where samples of a class ended, in numbers."""

    share: float  # nearest the class's mean
    radius: float  # median distance from the middle of the data
    far: float  # share beyond 3 spreads of every class

    @classmethod
    def of(cls, world: World, concept: int, x: Tensor) -> Ends:
        """Of samples `(N, 2)`."""
        share = (world.mixture.nearest(x) == concept).double().mean()
        radius = (x - world.middle).norm(dim=1).median()
        return cls(share.item(), radius.item(), world.far(x).double().mean().item())


def choices(name: str) -> list[tuple[str, str]]:
    """(text, value) of the answers."""
    return [
        (f"On {name} still, only less of it", STAYS),
        ("On all classes, as if nothing had been asked for", ALL),
        (f"On the other classes, as if {name} had never been among the data", OTHERS),
        ("Past the other classes, where no data ever were", PAST),
    ]


def outcome(world: World, concept: int, ends: Ends) -> str:
    """Which answer the samples give."""
    weight = float(world.mixture.weights[concept])
    if ends.far > 0.5:
        return PAST
    if ends.share > (1 + weight) / 2:
        return STAYS
    return OTHERS if ends.share < weight / 2 else ALL


def feedback(world: World, concept: int, chosen: str, ends: Ends, push: float) -> tuple[bool, str]:
    """Whether the choice was right, and HTML: what was wrong with it, then the facts."""
    found, name = outcome(world, concept, ends), escape(world.names[concept])
    right = chosen == found
    opening = "Right." if right else f"Not so. {_wrong(chosen, name, push)}"
    return right, f"{opening} {_seen(found, name, ends, push)}"


def _wrong(chosen: str, name: str, push: float) -> str:
    """The misconception behind a choice. Only said where the choice is wrong."""
    if chosen == STAYS:
        return (
            f"The target is not a weaker ε<sub>{name}</sub>: it starts at ε<sub>null</sub> and "
            f"goes −η times the way to ε<sub>{name}</sub>, which for η above 0 is away from {name}."
        )
    if chosen == ALL:
        return (
            "That is η = 0, or guidance 0: the model then answers as if it had been told nothing. "
            f"Here the samples follow ε<sub>null</sub> − {push:g} (ε<sub>{name}</sub> − "
            "ε<sub>null</sub>)."
        )
    if chosen == OTHERS:
        return (
            f"That is what training without {name} would give, and what erasing is often taken "
            "for. But the target is no score of the remaining data; it adds a push away from "
            f"{name} to ε<sub>null</sub>."
        )
    return (
        f"For that the push, η times guidance = {push:g}, is too weak here: "
        "ε<sub>null</sub>, which pulls back to the data, wins."
    )


def _seen(found: str, name: str, ends: Ends, push: float) -> str:
    """What the samples show."""
    numbers = (
        f"{ends.share:.1%} end nearest {name}, {ends.far:.0%} farther than 3 spreads from every "
        f"class; their median distance from the middle of the data is {ends.radius:.1f}."
    )
    if found == PAST:
        why = f"The push away from {name} does not stop where the data stop."
    elif found == OTHERS:
        why = (
            f"The push, η times guidance = {push:g}, outweighs the pull to {name} and leaves most "
            "samples within reach of the other classes."
        )
    elif found == ALL:
        why = f"With η times guidance = {push:g} little or nothing is added to ε<sub>null</sub>."
    else:
        why = f"With η times guidance = {push:g} the samples are still drawn to {name}."
    return f"{numbers} {why}"
