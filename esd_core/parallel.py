"""One process among several that `accelerate launch` or `torchrun` started, or the only one.

    accelerate launch --multi_gpu --num_processes 2 -m esd_core erase "a cat"

works on CPUs as well, in spite of the flag's name; without it, accelerate wants MPI there.

Every process holds the whole model. What they share out is work: the teacher's trajectories, the
examples of an update, or the runs of a sweep.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor


@dataclass(frozen=True)
class Team:
    """How many processes there are and which of them this is."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def mine(self, count: int) -> range:
        """Which of `count` pieces of work this process does."""
        return range(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def agreed(self, value: Any) -> Any:  # noqa: ANN401
        """The first process's value, for all."""
        if self.size == 1:
            return value
        return broadcast_object_list([value])[0]

    def everyones(self, value: Any) -> list[Any]:  # noqa: ANN401
        """One value of each process, by rank."""
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
        """Say goodbye to the others, before the process ends."""
        if self.size > 1:
            PartialState().destroy_process_group()

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            PartialState().wait_for_everyone()


ALONE = Team()


def join(device: str | None = None) -> tuple[Team, str | None]:
    """The team this process was launched into, and the device it should use.

    Without `accelerate launch` (or torchrun) that is nobody else and the device that was asked for.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return ALONE, device
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    return Team(state.process_index, state.num_processes), str(state.device)
