"""One process among several that `accelerate launch` or `torchrun` started, or the only one.

    accelerate launch --multi_gpu --num_processes 2 -m esd_core erase "a cat"

works on CPUs, too; without `--multi_gpu`, accelerate wants MPI there. Every process holds the whole
model and does a part of the work: of the teacher's trajectories, the examples of an update, or the runs
of a sweep.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """The processes of one launch, seen from one of them. All have to make the calls that exchange
    something, in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def mine(self, count: int) -> range:
        """Indices of the pieces of work, out of `count`, that this process does: a run of neighbours."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def everyones(self, value: Any) -> list[Any]:  # noqa: ANN401
        """The values of all processes, by rank."""
        return [value] if self.size == 1 else gather_object([value])

    def add_up(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their sums over the processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([t.detach().flatten() for t in tensors])
        torch.distributed.all_reduce(flat)
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def leave(self) -> None:
        """Close the connections to the other processes, before this one ends."""
        if self.size > 1:
            PartialState().destroy_process_group()

    def wait(self) -> None:
        """Return once every process has called this."""
        if self.size > 1:
            PartialState().wait_for_everyone()


ALONE = Team()


def join(device: str | None = None) -> tuple[Team, str | None]:
    """The team of this launch, and the device that this process should use: without `accelerate
    launch` or torchrun ALONE, and the device that was asked for."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE, device
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return Team(state.process_index, state.num_processes), str(state.device)
