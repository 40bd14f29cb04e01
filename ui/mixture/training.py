"""What a small network learns of a visitor's classes, and of erasing one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock

from esd_core.plane.mixture import PredictEps
from esd_core.plane.network import MixtureNet, erase_class, fit
from ui.mixture.class_text import read

FIT, ERASE, REFRESH = 600, 120, 0.3  # updates of either training; seconds between pictures
KEPT = 16  # networks
learned: dict[str, MixtureNet] = {}  # by the classes' text: what it learns depends on nothing else
_lock = Lock()


@dataclass(frozen=True)
class Networks:
    """A network that learned the classes, and its copy from which one is erased."""

    text: str
    concept: int
    eta: float
    frozen: MixtureNet
    edited: MixtureNet | None = None  # None until erasing begins

    @property
    def target(self) -> PredictEps:
        """The erased prediction for the class; before erasing, what it will be trained to be."""
        if self.edited is None:
            return self.frozen.guided(self.concept, -self.eta)
        return self.edited.guided(self.concept, 1.0)


def train(text: str, concept: int, eta: float) -> Iterator[tuple[Networks, str, float]]:
    """The networks so far, what is going on, and how much of it is done (0 to 1), at every update.

    So whoever closes this is rid of it at once.
    """
    net, whole = learned.get(text), FIT + ERASE
    if net is None:
        for update, (net, loss) in enumerate(fit(read(text).mixture, updates=FIT), 1):
            said = f"Learning the classes: update {update} of {FIT}, loss {loss:.3f}"
            yield Networks(text, concept, eta, net), said, update / whole
        assert net is not None
        _keep(text, net.requires_grad_(False).eval())
    for update, (edited, loss) in enumerate(erase_class(net, concept, eta, updates=ERASE), 1):
        said = f"Erasing: update {update} of {ERASE}, loss {loss:.3f}"
        yield Networks(text, concept, eta, net, edited), said, (FIT + update) / whole
    yield Networks(text, concept, eta, net, edited.requires_grad_(False).eval()), "Done", 1.0


def _keep(text: str, net: MixtureNet) -> None:
    with _lock:
        learned[text] = net
        while len(learned) > KEPT:
            del learned[next(iter(learned))]
