"""The stages of a visitor's last run, so that they can walk from the frozen model to its end.

They travel in the visitor's own `gr.State`, inside the erasure itself, and expire with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from esd_core import EraseStep, Erasure, card
from ui.server.memory import tensor_bytes

STAGES = 4  # at most, between the frozen model and the end
MEMORY = 96 * 2**20  # bytes that one visitor's stages may take, the end not counted


@dataclass(frozen=True)
class StagedErasure(Erasure):
    """An erasure that remembers itself after fewer updates, in order."""

    earlier: tuple[Erasure, ...] = ()


class StageKeeper:
    """Keeps a few stages of a run, closer together at its beginning, where most happens."""

    def __init__(self, iterations: int) -> None:
        self.iterations = iterations
        self.earlier: list[Erasure] = []
        self.marks: set[int] | None = None  # known once we know how large a stage is

    def note(self, step: EraseStep) -> None:
        """Keep this step if it is one of the stages."""
        if step.loss is None:  # a run begins, or goes on where a stage may be kept already
            return
        if self.marks is None:
            self.marks = marks(self.iterations, tensor_bytes(step.erasure.tensors))
        if step.iteration in self.marks:
            self.earlier.append(step.erasure)

    def extend(self, iterations: int, reached: Erasure) -> None:
        """More updates are asked for: of the stages so far keep those nearest to the new marks."""
        if iterations == self.iterations:
            return
        self.iterations, done = iterations, updates(reached)
        self.marks = marks(iterations, tensor_bytes(reached.tensors))
        passed = [e for e in (*self.earlier, reached) if updates(e)]
        nearest = [
            min(passed, key=lambda stage: abs(updates(stage) - mark))
            for mark in sorted(self.marks)
            if mark <= done and passed
        ]
        self.earlier = list({updates(stage): stage for stage in nearest}.values())

    def forget_after(self, update: int) -> None:
        """Drop the stages between a run's last checkpoint and its stop."""
        self.earlier = [e for e in self.earlier if updates(e) <= update]

    def end(self, erasure: Erasure) -> StagedErasure:
        """The erasure together with the stages before it."""
        done = updates(erasure)
        earlier = tuple(e for e in self.earlier if updates(e) < done)
        return StagedErasure(erasure.tensors, erasure.base, erasure.provenance, earlier)


def marks(iterations: int, stage: int) -> set[int]:
    """After which updates to keep a stage of `stage` bytes: 1, 2, 4, 8 of 16, say."""
    count = min(STAGES, MEMORY // max(stage, 1), iterations)
    return {round(iterations ** (i / count)) for i in range(count)} if count else set()


def updates(erasure: Erasure | None) -> int:
    """How many it took; 0 for the frozen model, and where no number is on record."""
    return (card.updates(erasure) or 0) if erasure else 0


def stages(erasure: Erasure | None) -> list[Erasure | None]:
    """From the frozen model (None) to the erasure."""
    if erasure is None:
        return [None]
    return [None, *getattr(erasure, "earlier", ()), erasure]
