"""The classes of the Mixture tab as text that a visitor can edit, read into a `Mixture`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_uppercase

import torch

from esd_core.plane.mixture import Mixture

MOST_CLASSES, LARGEST, SPREADS, LONGEST = 6, 6.0, (0.05, 2.0), 16
HEAD = "name, x, y, spread, weight"


@dataclass(frozen=True)
class Classes:
    """Named Gaussians in the plane."""

    names: tuple[str, ...]
    mixture: Mixture

    @property
    def middle(self) -> torch.Tensor:
        """The mean of the data, `(2,)`."""
        return self.mixture.weights @ self.mixture.means

    @property
    def extent(self) -> float:
        """Half the side of a square around 0 that holds nearly all data."""
        reach = self.mixture.means.abs().amax(1) + 3 * self.mixture.stds
        return max(3.0, float(reach.max()))

    def without(self, concept: int) -> Mixture:
        """What the data would be had the class never been among them."""
        kept = torch.arange(len(self.names)) != concept
        weights = self.mixture.weights[kept]
        return Mixture(self.mixture.means[kept], self.mixture.stds[kept], weights / weights.sum())

    def far(self, x: torch.Tensor) -> torch.Tensor:
        """Which points `(N, 2)` lie more than 3 spreads from every class, `(N,)`."""
        away = torch.cdist(x, self.mixture.means.to(x.dtype)) / self.mixture.stds
        return (away > 3).all(1)


RING = "A, 0, 2, {}, 1\nB, -1.732, -1, 0.4, 1\nC, 1.732, -1, 0.4, 1"
PRESETS = {
    "Three classes on a ring": RING.format(0.4),
    "A narrow concept": RING.format(0.2),
    "A wide concept": RING.format(0.8),
    "Near and far neighbours": "A, 0, 0, 0.4, 1\nB, 1.2, 0, 0.4, 1\nC, -3, 0, 0.4, 1",
    "Five classes, one in the middle": "A, 0, 0, 0.3, 1\nB, 2, 0, 0.3, 1\nC, 0, 2, 0.3, 1\n"
    "D, -2, 0, 0.3, 1\nE, 0, -2, 0.3, 1",
}


def more(text: str, x: float, y: float) -> str:
    """The text with one class more, at a place that is moved inside what `read` takes."""
    names = read(text).names
    if len(names) == MOST_CLASSES:
        raise ValueError(f"there are {MOST_CLASSES} classes, and no room for more; take one out")
    name = next(letter for letter in ascii_uppercase if letter not in names)
    x, y = (min(max(place, -LARGEST), LARGEST) for place in (x, y))
    return f"{text.strip()}\n{name}, {x:.2f}, {y:.2f}, 0.4, 1"


@lru_cache(maxsize=64)
def read(text: str) -> Classes:
    """Classes from lines such as `A, 0, 2, 0.4, 1`."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not 2 <= len(lines) <= MOST_CLASSES:
        raise ValueError(f"{len(lines)} classes are described; write 2 to {MOST_CLASSES}, one per line")
    rows = [_row(line) for line in lines]
    names = tuple(name for name, *_ in rows)
    if len(set(names)) < len(names):
        raise ValueError("two classes have the same name; give each its own")
    x, y, stds, weights = (torch.tensor(c, dtype=torch.float64) for c in list(zip(*rows))[1:])  # noqa: B905
    return Classes(names, Mixture(torch.stack([x, y], dim=1), stds, weights / weights.sum()))


def _row(line: str) -> tuple[str, float, float, float, float]:
    shown = line.strip()[:60]
    name, *rest = (part.strip() for part in line.split(","))
    try:
        x, y, std, weight = map(float, rest)
    except ValueError:
        raise ValueError(f"{shown!r} is no class; write {HEAD}, for example A, 0, 2, 0.4, 1") from None
    if not 0 < len(name) <= LONGEST:
        raise ValueError(f"{shown!r}: give the class a name of 1 to {LONGEST} characters")
    if not (abs(x) <= LARGEST and abs(y) <= LARGEST):
        raise ValueError(f"{shown!r}: x and y must lie from -{LARGEST:g} to {LARGEST:g}")
    if not SPREADS[0] <= std <= SPREADS[1]:
        raise ValueError(f"{shown!r}: use a spread from {SPREADS[0]:g} to {SPREADS[1]:g}")
    if not (math.isfinite(weight) and 0.01 <= weight <= 100):
        raise ValueError(f"{shown!r}: use a weight from 0.01 to 100")
    return name, x, y, std, weight
