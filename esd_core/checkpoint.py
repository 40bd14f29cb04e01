"""An erasing run at rest: all that its next update depends on, in memory or in one safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.examples import Examples
from esd_core.files import replacing
from esd_core.models import DiffusionModel
from esd_core.teacher import Pairs

FORMAT = "esd-lab-checkpoint/1"
COUNTS = ("iteration", "seconds", "examples_seen", "first_loss")


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

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file; a reader never sees a half-written one.

        Tensors that are the same object, such as `null` and `centre` of most examples, are written once.
        """
        named, first = self._tensors(), dict[int, str]()
        twins = {name: first.setdefault(id(tensor), name) for name, tensor in named.items()}
        tensors = {name: named[name].contiguous() for name, twin in twins.items() if name == twin}
        known = {
            "base": self.erasure.base,
            "provenance": self.erasure.provenance,
            "config": self.config.to_dict(),
            "param_groups": self.optimizer["param_groups"],
            "origin": self.examples.origin,
            "twins": {name: twin for name, twin in twins.items() if name != twin},
            "counts": {name: getattr(self, name) for name in COUNTS},
        }
        with replacing(path) as temporary:
            save_file(tensors, temporary, {"format": FORMAT, "run": json.dumps(known)})
        return Path(path)

    def _tensors(self) -> dict[str, Tensor]:
        """Everything that is no JSON, by names such as "train.0.x_t"."""
        sets: dict[str, Pairs | None] = {f"train.{i}": drawn for i, drawn in enumerate(self.examples.train)}
        sets |= {"held_out": self.examples.held_out, "preserve": self.examples.preserve}
        moments = self.optimizer["state"]
        return {
            **{f"erasure.{name}": tensor for name, tensor in self.erasure.tensors.items()},
            **{f"optimizer.{i}.{key}": tensor for i, own in moments.items() for key, tensor in own.items()},
            **{f"generator.{i}": state for i, state in enumerate(self.generators)},
            **{
                f"{at}.{f.name}": getattr(drawn, f.name)
                for at, drawn in sets.items()
                if drawn
                for f in fields(drawn)
            },
        }

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged, or no checkpoint.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"there is no file {path.name}")
        try:
            with safe_open(path, framework="pt") as file:
                metadata, tensors = (
                    file.metadata() or {},
                    {name: file.get_tensor(name) for name in file.keys()},
                )
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its metadata names no format {FORMAT!r}")
            known = json.loads(metadata["run"])
            tensors |= {name: tensors[twin] for name, twin in known["twins"].items()}
            return cls._of(tensors, known)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path.name} is no readable checkpoint of a run: {error}") from error

    @classmethod
    def _of(cls, tensors: dict[str, Tensor], known: dict[str, Any]) -> Checkpoint:
        def group(prefix: str) -> dict[str, Tensor]:
            return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}

        def pairs(at: str) -> Pairs | None:
            return Pairs(**found) if (found := group(f"{at}.")) else None

        moments: dict[int, dict[str, Tensor]] = {}
        for name, tensor in group("optimizer.").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = tensor
        config = EraseConfig.from_dict(known["config"])
        train = tuple(drawn for i in range(len(config.concepts)) if (drawn := pairs(f"train.{i}")))
        return cls(
            Erasure(group("erasure."), known["base"], known["provenance"]),
            config,
            {"state": moments, "param_groups": known["param_groups"]},
            (tensors["generator.0"], tensors["generator.1"]),
            Examples(train, pairs("held_out"), pairs("preserve"), known["origin"]),
            **known["counts"],
        )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of its `state_dict` on the CPU."""
    known = optimizer.state_dict()
    moments = {
        index: {name: value.detach().to("cpu", copy=True) for name, value in own.items()}
        for index, own in known["state"].items()
    }
    return {"state": moments, "param_groups": known["param_groups"]}
