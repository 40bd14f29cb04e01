"""What a small network learns of a visitor's classes, and of erasing one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from esd_core.plane.mixture import PredictEps
from esd_core.plane.network import MixtureNet, erase_class, fit
from ui.mixture.class_text import read

FIT, ERASE, REFRESH = 600, 120, 0.3  # updates of either training; seconds between pictures
_frozen: dict[str, MixtureNet] = {}  # by the classes' text: what it learns depends on nothing else
_lock, KEPT = Lock(), 16


@dataclass(frozen=True)
class Lesson:
    """A network that learned the classes, and its copy from which one is erased."""

    text: str
    concept: int
    eta: float
    frozen: MixtureNet
    edited: MixtureNet | None = None  # None until erasing begins
    updates: int = 0

    @property
    def target(self) -> PredictEps:
        """The erased prediction for the class; before erasing, what it will be trained to be."""
        if self.edited is None:
            return self.frozen.guided(self.concept, -self.eta)
        return self.edited.guided(self.concept, 1.0)


def learn(text: str, concept: int, eta: float) -> Iterator[tuple[Lesson, str, float]]:
    """Train; yields the lesson so far, what is going on, and how much of it is done (0 to 1).

    Every update yields, so that whoever closes this is rid of it at once; most repeat the lesson.
    """
    whole = FIT + ERASE
    net = _frozen.get(text)
    if net is None:
        for update, (net, loss) in enumerate(fit(read(text).mixture, updates=FIT), 1):
            said = f"Learning the classes: update {update} of {FIT}, loss {loss:.3f}"
            yield Lesson(text, concept, eta, net), said, update / whole
        assert net is not None
        _keep(text, net.requires_grad_(False).eval())
    for update, (edited, loss) in enumerate(erase_class(net, concept, eta, updates=ERASE), 1):
        said = f"Erasing: update {update} of {ERASE}, loss {loss:.3f}"
        yield Lesson(text, concept, eta, net, edited, update), said, (FIT + update) / whole
    done = Lesson(text, concept, eta, net, edited.requires_grad_(False).eval(), ERASE)
    yield done, "Done", 1.0


def _keep(text: str, net: MixtureNet) -> None:
    with _lock:
        _frozen[text] = net
        while len(_frozen) > KEPT:
            del _frozen[next(iter(_frozen))]
