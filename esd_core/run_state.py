"""The state of one erasing run: the edited copy, its optimiser, its random draws, its last good weights."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from esd_core import selection
from esd_core.checkpoint import Checkpoint
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure, set_parameter, shared_copy
from esd_core.examples import Examples
from esd_core.models import DiffusionModel
from esd_core.placement import place
from esd_core.support.parallel import ALONE, Team


@dataclass(eq=False)
class Run:
    """The edited copy and what is needed to update it."""

    model: DiffusionModel
    config: EraseConfig
    unet: UNet2DConditionModel
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    generator: torch.Generator  # draws examples
    picker: torch.Generator  # picks among them, so that given examples train like drawn ones
    team: Team = ALONE
    iteration: int = 0
    seconds: float = 0.0
    examples_seen: int = 0
    first_loss: float | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)  # as after `kept_at` updates
    kept_at: int = 0

    def capture(self) -> dict[str, Tensor]:
        """A copy of the trained values, float32 on the CPU."""
        return {n: p.detach().to("cpu", torch.float32, copy=True) for n, p in self.trained.items()}

    @torch.no_grad()
    def keep(self) -> None:
        """Write the trained values over those kept before: one copy, never two."""
        for name, parameter in self.trained.items():
            self.kept[name].copy_(parameter)
        self.kept_at = self.iteration

    def checkpoint(self, examples: Examples) -> Checkpoint:
        """A copy, on the CPU, of all that the next update depends on; `examples` are those in use."""
        known = self.optimizer.state_dict()
        moments = {
            index: {name: value.detach().to("cpu", copy=True) for name, value in own.items()}
            for index, own in known["state"].items()
        }
        states = [draws.get_state() for draws in (self.generator, self.picker)]
        learned, optimizer = self.erasure(self.capture(), self.iteration), {**known, "state": moments}
        counts = (self.iteration, self.seconds, self.examples_seen, self.first_loss)
        return Checkpoint(learned, self.config, optimizer, states, examples.to("cpu"), *counts)

    @torch.no_grad()
    def restore(self, rest: Checkpoint) -> None:
        """Stand where the run stood at its checkpoint."""
        for name, parameter in self.trained.items():
            parameter.copy_(rest.erasure.tensors[name])
        self.optimizer.load_state_dict(copy.deepcopy(rest.optimizer))  # it keeps what it is given
        self.generator.set_state(rest.generators[0])
        self.picker.set_state(rest.generators[1])
        self.iteration, self.seconds = rest.iteration, rest.seconds
        self.examples_seen, self.first_loss = rest.examples_seen, rest.first_loss
        self.keep()

    def erasure(self, tensors: dict[str, Tensor], iterations_done: int) -> Erasure:
        """Trained values and the record of how they came about."""
        record: dict[str, Any] = {
            "model": self.model.name,
            "config": self.config.to_dict(),
            "iterations_done": iterations_done,
            "seconds": round(self.seconds, 2),
            "versions": {p: version(p) for p in ("torch", "diffusers", "transformers")},
        }
        return Erasure(tensors, self.model.fingerprint, record)


def start(model: DiffusionModel, config: EraseConfig) -> Run:
    """A run before its first update: an edited copy whose selected parameters are trainable, in float32."""
    low_rank = config.train_method == "esd-lora"
    names = [] if low_rank else selection.select(model.unet, config.train_method)
    unet = shared_copy(model.unet, names)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    trained = {name: nn.Parameter(unet.get_parameter(name).detach().float()) for name in names}
    for name, parameter in trained.items():
        set_parameter(unet, name, parameter)
    if low_rank:
        trained = place(model, unet, config)
    on_gpu = model.device.type == "cuda"  # there Adam's default makes copies of all that is trained
    learning = [parameter for parameter in trained.values() if parameter.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=config.learning_rate, fused=on_gpu)
    generator, picker = (torch.Generator().manual_seed(config.seed) for _ in range(2))
    run = Run(model, config, unet, trained, optimizer, generator, picker)
    run.kept = run.capture()  # should the very first update diverge
    return run
