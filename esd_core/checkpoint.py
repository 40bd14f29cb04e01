"""An erasing run at rest: all that its next update depends on, as tensors on the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.examples import Examples
from esd_core.models import DiffusionModel


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands; `erase(..., resume=checkpoint)` goes on as if it had never stopped."""

    erasure: Erasure  # what has been learned
    config: EraseConfig
    optimizer: dict[str, Any]  # its `state_dict`
    generators: tuple[Tensor, Tensor]  # states: of the one that draws examples, and that picks
    examples: Examples  # those in use
    iteration: int
    seconds: float
    examples_seen: int
    first_loss: float | None

    def check(self, model: DiffusionModel, config: EraseConfig) -> None:
        """Raise ValueError unless a run with this config on this model may go on from here."""
        if replace(self.config, iterations=config.iterations) != config:
            raise ValueError("a run goes on with the options it began with; only iterations may differ")
        if config.iterations < self.iteration:
            raise ValueError(
                f"iterations is {config.iterations}, but {self.iteration} updates are made already"
            )
        self.erasure.check(model)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of its `state_dict` on the CPU."""
    known = optimizer.state_dict()
    moments = {
        index: {name: value.detach().to("cpu", copy=True) for name, value in own.items()}
        for index, own in known["state"].items()
    }
    return {"state": moments, "param_groups": known["param_groups"]}
