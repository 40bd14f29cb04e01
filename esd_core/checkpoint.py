"""An erasing run at rest: all that its next update depends on, in memory or in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.examples import Examples
from esd_core.models import DiffusionModel
from esd_core.support.files import write_safetensors
from esd_core.teacher import Pairs

FORMAT = "esd-lab-checkpoint/2"
TENSOR = "tensor"  # in the JSON of a file {TENSOR: name} stands for the tensor of that name


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
        try:
            with safe_open(path, framework="pt") as file:
                run = (file.metadata() or {})["run"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            made = json.loads(run, object_hook=lambda d: tensors[d[TENSOR]] if TENSOR in d else d)
            drawn = made["examples"]
            drawn["train"] = tuple(Pairs(**pairs) for pairs in drawn["train"])
            drawn |= {k: Pairs(**drawn[k]) for k in ("held_out", "preserve") if drawn[k]}
            moments = {int(index): own for index, own in made["optimizer"]["state"].items()}
            made |= {
                "erasure": Erasure(**made["erasure"]),
                "config": EraseConfig.from_dict(made["config"]),
                "optimizer": made["optimizer"] | {"state": moments},
                "examples": Examples(**drawn),
            }
            return cls(**made)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            name = Path(path).name
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else repr(error)
            raise ValueError(f"{name} is no readable checkpoint of a run: {reason}") from error
