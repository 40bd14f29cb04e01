"""When a run refreshes its plots and draws its frames, how long it has taken, and what is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from esd_core import EraseStep
from ui.shared.timing import duration

REFRESH = 0.8  # seconds between updates of the plots and of what Stop keeps


@dataclass
class RunClock:
    """The clock of one sitting of a run: from Erase, or Continue, to its end or Stop."""

    total: int  # updates, when the run is done
    began: float = field(default_factory=time.perf_counter)
    refreshed: float = 0.0
    frame: float = 0.0  # seconds of the last frame
    first: tuple[int, float] | None = None  # iteration and training seconds when it began
    last: tuple[int, float] | None = None

    def refresh(self) -> bool:
        """Whether the plots are due."""
        due = time.perf_counter() - self.refreshed >= REFRESH
        if due:
            self.refreshed = time.perf_counter()
        return due

    def note(self, step: EraseStep) -> None:
        """Take an update's time."""
        self.last = step.iteration, step.seconds
        self.first = self.first or self.last

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Take the time of a frame."""
        begun = time.perf_counter()
        yield
        self.frame = time.perf_counter() - begun

    @property
    def update(self) -> float:
        """Seconds of an update, the mean of this sitting; 0 before there is one."""
        if self.first is None or self.last is None or self.first == self.last:
            return 0.0
        return (self.last[1] - self.first[1]) / (self.last[0] - self.first[0])

    def text(self, every: int) -> str:
        """Time since the button was pressed and, once that is known, what is left.

        Args:
            every: updates between frames.
        """
        text = f"{duration(time.perf_counter() - self.began)}"
        if not self.update or self.last is None:
            return text
        updates = self.total - self.last[0]
        frames = min(updates / every, 12) if updates else 1  # a long film thins out
        return f"{text}, about {duration(updates * self.update + frames * self.frame)} left"
