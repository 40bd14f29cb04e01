"""An erasing run at rest: all that its next update depends on, in memory or in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.examples import Examples
from esd_core.files import write_safetensors
from esd_core.models import DiffusionModel
from esd_core.teacher import Pairs

FORMAT = "esd-lab-checkpoint/1"
COUNTS = ("iteration", "seconds", "examples_seen", "first_loss")


@dataclass(frozen=True, eq=False)
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
        examples, first = self.examples, dict[int, str]()
        sets = {"held_out": examples.held_out, "preserve": examples.preserve}
        nested = {
            "erasure": self.erasure.tensors,
            "optimizer": self.optimizer["state"],
            "generators": dict(enumerate(self.generators)),
            **{k: vars(v) for k, v in sets.items() if v},
            "train": {i: vars(drawn) for i, drawn in enumerate(examples.train)},
        }
        flat = dict(_flat(nested))
        twins = {name: first.setdefault(id(tensor), name) for name, tensor in flat.items()}
        known = {
            "base": self.erasure.base,
            "provenance": self.erasure.provenance,
            "config": self.config.to_dict(),
            "param_groups": self.optimizer["param_groups"],
            "origin": examples.origin,
            "twins": twins,
            "counts": {name: getattr(self, name) for name in COUNTS},
        }
        tensors = {name: flat[name] for name in first.values()}
        return write_safetensors(path, tensors, {"format": FORMAT, "run": json.dumps(known)})

    @classmethod
    def load(cls, path: str | Path) -> Checkpoint:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged, or no checkpoint.
        """
        try:
            with safe_open(path, framework="pt") as file:
                known = json.loads((file.metadata() or {})["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            made = _nested({name: tensors[twin] for name, twin in known["twins"].items()})
            held_out, preserve = (Pairs(**made[k]) if k in made else None for k in ("held_out", "preserve"))
            train = tuple(Pairs(**made["train"][str(i)]) for i in range(len(made.get("train", ()))))
            moments = {int(i): own for i, own in made.get("optimizer", {}).items()}
            return cls(
                Erasure(made["erasure"], known["base"], known["provenance"]),
                EraseConfig.from_dict(known["config"]),
                {"state": moments, "param_groups": known["param_groups"]},
                (made["generators"]["0"], made["generators"]["1"]),
                Examples(train, held_out, preserve, known["origin"]),
                **known["counts"],
            )
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            name = Path(path).name
            reason = "there is no such file" if isinstance(error, FileNotFoundError) else repr(error)
            raise ValueError(f"{name} is no readable checkpoint of a run: {reason}") from error


def _flat(nested: Mapping[Any, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, Tensor]]:
    """The tensors of nested dictionaries, by names such as "train/0/x_t"."""
    for key, value in nested.items():
        if isinstance(value, Tensor):
            yield "/".join((*at, str(key))), value
        else:
            yield from _flat(value, (*at, str(key)))


def _nested(flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_flat`; all keys are texts."""
    made: dict[str, Any] = {}
    for name, tensor in flat.items():
        *folders, leaf = name.split("/")
        place = made
        for folder in folders:
            place = place.setdefault(folder, {})
        place[leaf] = tensor
    return made


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of its `state_dict` on the CPU."""
    known = optimizer.state_dict()
    moments = {
        index: {name: value.detach().to("cpu", copy=True) for name, value in own.items()}
        for index, own in known["state"].items()
    }
    return {"state": moments, "param_groups": known["param_groups"]}
