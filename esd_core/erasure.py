"""A learned erasure: the changed tensors, where they came from, and how to put them to use.

The file is safetensors: trained values under diffusers' UNet parameter names, so that it also loads
with a plain `load_state_dict(strict=False)`, and provenance as JSON in its metadata.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from esd_core.atomic import replacing
from esd_core.models import DiffusionModel

FORMAT = "esd-lab/1"
STRENGTHS = (-10, 10)  # beyond, nothing but noise is drawn


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

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits of the tensors, to tell erasures apart."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            digest.update(name.encode())
            digest.update(self.tensors[name].float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def check(self, model: DiffusionModel) -> None:
        """Raise ValueError, saying why, unless this erasure was made for `model`."""
        check_shapes(model, {name: tuple(value.shape) for name, value in self.tensors.items()})
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

    @classmethod
    def combine(
        cls, model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
    ) -> Erasure:
        """Several erasures added up, as `combine` does, kept as one; its record lists the parts."""
        tensors = {n: t.cpu() for n, t in _sums(model, erasures, strengths).items()}
        pairs = zip(erasures, strengths, strict=True)
        parts = [{"strength": s, "hash": e.hash, "provenance": e.provenance} for e, s in pairs]
        return cls(tensors, model.fingerprint, {"model": model.name, "parts": parts})

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file; a reader never sees a half-written one.

        Raises:
            ValueError: the name does not end in .safetensors.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            raise ValueError(f"{path.name!r} must end in .safetensors")
        metadata = {"format": FORMAT, "base": self.base, "provenance": json.dumps(self.provenance)}
        with replacing(path) as temporary:
            save_file({n: t.contiguous() for n, t in self.tensors.items()}, temporary, metadata)
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
        except (ValueError, TypeError, RecursionError) as error:
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


def check_shapes(model: DiffusionModel, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ValueError, saying why, unless the UNet has tensors of these names and shapes."""
    parameters = dict(model.unet.named_parameters())
    if missing := sorted(set(shapes) - set(parameters)):
        raise ValueError(
            f"this erasure changes {missing[0]!r} and {len(missing) - 1} more tensors that the "
            f"UNet of {model.name!r} does not have; load the model it was made for"
        )
    for name, shape in shapes.items():
        if shape != parameters[name].shape:
            raise ValueError(
                f"this erasure's {name!r} has shape {shape}, but {model.name!r} "
                f"has {tuple(parameters[name].shape)}; load the model it was made for"
            )


def combine(
    model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
) -> UNet2DConditionModel:
    """Add up several erasures: W + sum_i strength_i * (W_i - W) for every changed tensor W.

    Raises:
        ValueError: an erasure belongs to another model, a strength is out of range, or the lists
            differ in length.
    """
    sums = _sums(model, erasures, strengths)
    edited = shared_copy(model.unet, list(sums))
    for name, value in sums.items():
        value = value.to(edited.get_parameter(name).dtype)
        set_parameter(edited, name, nn.Parameter(value, requires_grad=False))
    return edited


def _sums(
    model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
) -> dict[str, Tensor]:
    """The values that `combine` puts into the UNet, float32, new tensors on its device."""
    if len(erasures) != len(strengths):
        raise ValueError(f"{len(erasures)} erasures but {len(strengths)} strengths")
    for strength in strengths:
        if not STRENGTHS[0] <= strength <= STRENGTHS[1]:
            raise ValueError(f"strength is {strength!r}; use a number from -10 to 10")
    for erasure in erasures:
        erasure.check(model)
    sums = {}
    for name in dict.fromkeys(n for e in erasures for n in e.tensors):
        base = model.unet.get_parameter(name).detach().float()
        pairs = zip(erasures, strengths, strict=True)
        parts = [(e.tensors[name].to(base.device), s) for e, s in pairs if name in e.tensors]
        if len(parts) == 1 and parts[0][1] == 1:
            value = parts[0][0].clone()  # exactly the trained numbers, with no rounding on the way
        else:
            value = base + sum(s * (trained - base) for trained, s in parts)
        sums[name] = value
    return sums
