"""A learned erasure: the changed tensors, where they came from, and how to put them to use.

The file is safetensors: trained values under diffusers' UNet parameter names, so that it also loads
with a plain `load_state_dict(strict=False)`, and provenance as JSON in its metadata.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from esd_core.models import DiffusionModel

FORMAT = "esd-lab/1"


def shared_copy(unet: UNet2DConditionModel, names: Sequence[str]) -> UNet2DConditionModel:
    """A UNet in which only the named parameters are new; every other tensor is the same object.

    It costs the memory of the named parameters and leaves `unet` untouched whatever happens to it.
    """
    own = set(names)
    shared = [p for n, p in unet.named_parameters() if n not in own] + list(unet.buffers())
    return copy.deepcopy(unet, memo={id(tensor): tensor for tensor in shared})


def set_parameter(module: nn.Module, name: str, value: nn.Parameter) -> None:
    """Replace one parameter, given by its dotted name."""
    owner, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(owner), leaf, value)


@dataclass(frozen=True)
class Erasure:
    """The tensors that erasing changed, and a record of how."""

    tensors: dict[str, Tensor]  # UNet parameter name -> trained value, float32 on the CPU
    base: str  # fingerprint of the UNet it was trained from
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON values only

    def check(self, model: DiffusionModel) -> None:
        """Raise ValueError, saying why, unless this erasure was made for `model`."""
        parameters = dict(model.unet.named_parameters())
        if missing := sorted(set(self.tensors) - set(parameters)):
            raise ValueError(
                f"this erasure changes {missing[0]!r} and {len(missing) - 1} more tensors that the "
                f"UNet of {model.name!r} does not have; load the model it was made for"
            )
        for name, value in self.tensors.items():
            if value.shape != parameters[name].shape:
                raise ValueError(
                    f"this erasure's {name!r} has shape {tuple(value.shape)}, but {model.name!r} "
                    f"has {tuple(parameters[name].shape)}; load the model it was made for"
                )
        if self.base and self.base != model.fingerprint:
            made_for = self.provenance.get("model", "another model")
            raise ValueError(
                f"this erasure was made for {made_for} (weights {self.base}); {model.name!r} has "
                f"weights {model.fingerprint}: load that model, or erase again on this one"
            )

    def apply(self, model: DiffusionModel, strength: float = 1.0) -> UNet2DConditionModel:
        """An edited copy of the model's UNet; the model itself stays as it is.

        Args:
            model: the model this erasure was made for.
            strength: 0 is the frozen model, 1 the erasure as trained; values between interpolate,
                values outside extrapolate, negative ones strengthen the concept.

        Raises:
            ValueError: the erasure belongs to another model.
        """
        return combine(model, [self], [strength])

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file; a reader never sees a half-written one."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path.name!r} must end in .safetensors")
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": FORMAT, "base": self.base, "provenance": json.dumps(self.provenance)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            save_file({n: t.contiguous() for n, t in self.tensors.items()}, temporary, metadata)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        return path

    @classmethod
    def load(cls, path: str | Path) -> Erasure:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is missing, damaged, not an erasure, or holds no finite floats.
        """
        metadata, tensors = read_safetensors(path)
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{path} is not an ESD Lab erasure (its metadata names no format {FORMAT!r}); for "
                "the authors' files use esd_core.formats.read_official"
            )
        try:
            provenance = dict(json.loads(metadata.get("provenance", "{}")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: its provenance is no JSON object: {error}") from error
        return cls(tensors, metadata.get("base", ""), provenance)


def read_safetensors(path: str | Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors (as float32) of a safetensors file, checked before use.

    Raises:
        ValueError: the file is missing, damaged, empty, or holds something else than finite floats.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata, tensors = file.metadata() or {}, {n: file.get_tensor(n) for n in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    if not tensors:
        raise ValueError(f"{path} holds no tensors")
    for name, value in tensors.items():
        if not value.is_floating_point() or not bool(torch.isfinite(value.float()).all()):
            raise ValueError(f"{path}: tensor {name!r} is not made of finite floats")
    return metadata, {n: v.float() for n, v in tensors.items()}


def combine(
    model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
) -> UNet2DConditionModel:
    """Add up several erasures: W + sum_i strength_i * (W_i - W) for every changed tensor W.

    Raises:
        ValueError: an erasure belongs to another model, or the lists differ in length.
    """
    if len(erasures) != len(strengths):
        raise ValueError(f"{len(erasures)} erasures but {len(strengths)} strengths")
    for erasure in erasures:
        erasure.check(model)
    names = list(dict.fromkeys(n for e in erasures for n in e.tensors))
    edited = shared_copy(model.unet, names)
    frozen = dict(model.unet.named_parameters())
    for name in names:
        base = frozen[name].detach().float()
        pairs = zip(erasures, strengths, strict=True)
        parts = [(e.tensors[name].to(base.device), s) for e, s in pairs if name in e.tensors]
        if len(parts) == 1 and parts[0][1] == 1:
            value = parts[0][0]  # exactly the trained numbers, with no rounding on the way
        else:
            value = base + sum(s * (trained - base) for trained, s in parts)
        value = value.to(frozen[name].dtype)
        set_parameter(edited, name, nn.Parameter(value.clone(), requires_grad=False))
    return edited
