"""An erasure with its stages: what its run had learned after fewer updates.

They travel in the visitor's own `gr.State`, inside the erasure itself, and expire with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from esd_core import EraseStep, Erasure, card
from ui.server.memory import tensor_bytes

STAGES = 5  # at most, between the frozen model and the end
MEMORY = 96 * 2**20  # bytes that one visitor's stages may take, the end not counted


@dataclass(frozen=True)
class StagedErasure(Erasure):
    """An erasure that remembers itself after fewer updates, in order."""

    earlier: tuple[Erasure, ...] = ()


@dataclass
class StageKeeper:
    """Keeps a few stages of a run, closer together at its beginning, where most happens."""

    earlier: list[Erasure] = field(default_factory=list)
    factor: int = 2  # between the updates of two stages

    def note(self, step: EraseStep) -> None:
        """Keep this step if it is one of the stages; of too many stages, keep every other one."""
        first = 0 if step.run.config.edit else 1  # before any update there is what was solved for
        if step.iteration == (max(1, self.factor * updates(self.earlier[-1])) if self.earlier else first):
            self.earlier.append(step.erasure)
            room = min(STAGES, MEMORY // max(tensor_bytes(step.erasure.tensors), 1))
            if len(self.earlier) > room:
                self.earlier, self.factor = self.earlier[::2][:room], self.factor**2

    def forget_after(self, update: int) -> None:
        """Drop the stages between a run's last checkpoint and its stop."""
        self.earlier = [e for e in self.earlier if updates(e) <= update]

    def end(self, erasure: Erasure) -> StagedErasure:
        """The erasure together with the stages before it."""
        done = updates(erasure)
        earlier = tuple(e for e in self.earlier if updates(e) < done)
        return StagedErasure(erasure.tensors, erasure.base, erasure.provenance, earlier)


def updates(erasure: Erasure | None) -> int:
    """How many it took; 0 for the frozen model, and where no number is on record."""
    return (card.updates(erasure) or 0) if erasure else 0


def stages(erasure: Erasure | None) -> list[Erasure | None]:
    """From the frozen model (None) to the erasure."""
    if erasure is None:
        return [None]
    return [None, *getattr(erasure, "earlier", ()), erasure]
