"""One erasing run: its edited copy, optimiser and random draws; and a `Checkpoint` of them, to go on from."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.operations import recursively_apply
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from esd_core import selection
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure, set_parameter, shared_copy
from esd_core.examples import Examples, draw
from esd_core.models import DiffusionModel
from esd_core.placement import place
from esd_core.sampling import finish
from esd_core.support.files import write_safetensors
from esd_core.support.parallel import ALONE, Team
from esd_core.teacher import Pairs, Teacher

FORMAT = "esd-lab-checkpoint/2"
TENSOR = "tensor"  # in the JSON of a file {TENSOR: name} stands for the tensor of that name
COUNTS = ("iteration", "seconds", "examples_seen", "first_loss")


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
    examples: Examples = Examples(())  # those in use
    iteration: int = 0
    seconds: float = 0.0
    examples_seen: int = 0
    first_loss: float | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)  # trained values after `kept_at` updates
    kept_at: int = 0

    @torch.no_grad()
    def keep(self) -> None:
        """Write the trained values over those kept before: one copy, never two."""
        for name, parameter in self.trained.items():
            self.kept[name].copy_(parameter)
        self.kept_at = self.iteration

    @property
    def learned(self) -> Erasure:
        """A copy of the trained values, float32 on the CPU, and the record of how they came about."""
        return self._erasure(copied(self.trained), self.iteration)

    @property
    def last_good(self) -> Erasure:
        """The same of those kept."""
        return self._erasure(self.kept, self.kept_at)

    def _erasure(self, tensors: dict[str, Tensor], iterations_done: int) -> Erasure:
        record = {
            "model": self.model.name,
            "config": self.config.to_dict(),
            "iterations_done": iterations_done,
            "seconds": round(self.seconds, 2),
            "versions": {p: version(p) for p in ("torch", "diffusers", "transformers")},
        }
        return Erasure(tensors, self.model.fingerprint, record)

    def draw(self, images: Tensor | None) -> None:
        """New examples, of the model whose trajectories the run follows; those that hold are kept."""
        followed = self.unet if self.config.x_t_source == "edited" else None
        teacher = Teacher(self.model, self.config, followed, self.team)
        self.examples = finish(draw(teacher, self.generator, images, self.examples.preserve))

    def checkpoint(self) -> Checkpoint:
        """A copy, on the CPU, of all that the next update depends on."""
        states = [draws.get_state() for draws in (self.generator, self.picker)]
        optimizer, examples = copied(self.optimizer.state_dict()), self.examples.to("cpu")
        counts = {name: getattr(self, name) for name in COUNTS}
        return Checkpoint(self.learned, self.config, optimizer, states, examples, **counts)

    @torch.no_grad()
    def restore(self, rest: Checkpoint) -> None:
        """Stand where the run stood at its checkpoint."""
        for name, parameter in self.trained.items():
            parameter.copy_(rest.erasure.tensors[name])
        self.optimizer.load_state_dict(copy.deepcopy(rest.optimizer))  # it keeps what it is given
        self.generator.set_state(rest.generators[0])
        self.picker.set_state(rest.generators[1])
        self.examples = rest.examples.to(self.model.device)
        for name in COUNTS:
            setattr(self, name, getattr(rest, name))
        self.keep()


def copied(values: Any) -> Any:  # noqa: ANN401
    """The same dicts and lists with copies of their tensors on the CPU."""
    return recursively_apply(lambda tensor: tensor.detach().to("cpu", copy=True), values)


def start(model: DiffusionModel, config: EraseConfig, team: Team = ALONE) -> Run:
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
    kept = copied(trained)  # should the very first update diverge
    return Run(model, config, unet, trained, optimizer, generator, picker, team, kept=kept)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run stands; `erase(..., resume=checkpoint)` goes on as if it had never stopped."""

    erasure: Erasure  # what has been learned
    config: EraseConfig
    optimizer: dict[str, Any]  # its `state_dict`
    generators: list[Tensor]  # states: of the one that draws examples, and that picks
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

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file; a reader never sees a half-written one.

        A tensor that stands in several places, as `null` and `centre` of most examples, is written once.
        """
        names, tensors = dict[int, str](), dict[str, Tensor]()

        def plain(value: Any) -> dict[str, Any]:  # noqa: ANN401
            if not isinstance(value, Tensor):
                return {field.name: getattr(value, field.name) for field in fields(value)}
            name = names.setdefault(id(value), str(len(names)))
            tensors[name] = value
            return {TENSOR: name}

        run = json.dumps(self, default=plain)
        return write_safetensors(path, tensors, {"format": FORMAT, "run": run})

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read what `save` wrote; ValueError if the file is missing, damaged, or no checkpoint."""
        tensors = dict[str, Tensor]()

        def remade(values: dict[str, Any]) -> Any:  # noqa: ANN401
            if TENSOR in values:
                return tensors[values[TENSOR]]
            return Pairs(**values) if "x_t" in values else values

        try:
            with safe_open(path, framework="pt") as file:
                tensors |= {name: file.get_tensor(name) for name in file.keys()}
                made = json.loads((file.metadata() or {})["run"], object_hook=remade)
            examples, optimizer = made["examples"], made["optimizer"]
            optimizer["state"] = {int(index): own for index, own in optimizer["state"].items()}
            made["examples"] = Examples(**{**examples, "train": tuple(examples["train"])})
            made["config"] = EraseConfig.from_dict(made["config"])
            made["erasure"] = Erasure(**made["erasure"])
            return cls(**made)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            name = Path(path).name
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else repr(error)
            raise ValueError(f"{name} is no readable checkpoint of a run: {reason}") from error
