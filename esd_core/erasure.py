"""A learned erasure: the changed tensors, where they came from, and how to put them to use.

The file is safetensors, with provenance as JSON in its metadata: trained values under diffusers' UNet
parameter names, so that it also loads with a plain `load_state_dict(strict=False)`; or, of a change of low
rank, its two factors under the names that make the file a LoRA for diffusers' `load_lora_weights`.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from esd_core.models import DiffusionModel
from esd_core.support.files import read_safetensors, write_safetensors

FORMAT = "esd-lab/1"
DOWN, UP = ".lora_A.weight", ".lora_B.weight"  # (r, D) and (O, r), PEFT's names: the change is UP @ DOWN
PREFIX = "unet."  # of a LoRA's tensors in a file
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


@dataclass(frozen=True, eq=False)  # `==` of tensors has no truth value; compare the hashes
class Erasure:
    """The tensors that erasing changed, and a record of how."""

    # UNet parameter name -> trained value, or its layer's name + DOWN, UP -> factors; float32 on the CPU.
    tensors: dict[str, Tensor]
    base: str  # fingerprint of the UNet it was trained from
    provenance: dict[str, Any] = field(default_factory=dict)  # JSON values only

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits of the tensors, to tell erasures apart."""
        digest = hashlib.sha256()
        for name, value in sorted(self.tensors.items()):
            digest.update(name.encode() + value.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    @cached_property
    def changes(self) -> dict[str, tuple[int, ...]]:
        """The parameters of a UNet that it changes, and the shape of each change."""
        found = dict[str, tuple[int, ...]]()
        for name, value in self.tensors.items():
            layer = name.removesuffix(DOWN).removesuffix(UP)
            factors = [self.tensors[layer + end] for end in (UP, DOWN) if layer + end in self.tensors]
            if [f.ndim for f in factors] == [2, 2] and factors[0].shape[1] == len(factors[1]):
                found[f"{layer}.weight"] = (len(factors[0]), factors[1].shape[1])
            else:
                found[name] = tuple(value.shape)
        return found

    def value(self, name: str, base: Tensor, strength: float = 1.0) -> Tensor:
        """What it makes of the parameter of this name, whose frozen value is `base`: exactly that at strength
        0, and at 1 exactly the trained numbers of a whole matrix."""
        if name in self.tensors:
            return torch.lerp(base, self.tensors[name].to(base.device), strength)
        up, down = (self.tensors[name.removesuffix(".weight") + end] for end in (UP, DOWN))
        return base + strength * (up @ down).to(base.device)

    @property
    def is_lora(self) -> bool:
        """Whether all that it changes is of low rank."""
        return self.changes.keys().isdisjoint(self.tensors)

    def check(self, model: DiffusionModel) -> None:
        """Raise ValueError, saying why, unless this erasure was made for `model`."""
        has = {name: tuple(p.shape) for name, p in model.unet.named_parameters()}
        for name, shape in self.changes.items():
            if shape != has.get(name):
                raise ValueError(
                    f"this erasure changes {name[:80]!r} of shape {shape}, which the UNet of "
                    f"{model.short_name!r} does not have; load the model it was made for"
                )
        if self.base and self.base != model.fingerprint:
            made_for = str(self.provenance.get("model", "another model"))[:80]
            raise ValueError(
                f"this erasure was made for {made_for} (weights {self.base[:80]}); {model.short_name!r} "
                f"has weights {model.fingerprint}: load that model, or erase again on this one"
            )

    def apply(self, model: DiffusionModel, strength: float = 1.0) -> UNet2DConditionModel:
        """An edited copy of the model's UNet; the model itself stays as it is. Strength 0 is the frozen
        model, 1 the erasure as trained; values between interpolate, values outside extrapolate, negative ones
        strengthen the concept. ValueError as `combine`."""
        return combine(model, [self], [strength])

    @property
    def parts(self) -> list[dict[str, Any]]:
        """Strength, hash and provenance of each erasure in a sum; [] if it is none. The record may
        be a stranger's: whatever has another form is left out."""
        listed = self.provenance.get("parts")
        return [
            part
            for part in (listed if isinstance(listed, list) else [])
            if isinstance(part, dict)
            and isinstance(strength := part.get("strength"), int | float)
            and abs(strength) < 1e6
            and isinstance(part.get("provenance"), dict)
        ]

    @classmethod
    def combine(
        cls, model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
    ) -> Erasure:
        """Several erasures added up, as `combine` does, kept as one; of LoRAs a LoRA whose ranks add up. Its
        record lists the parts; a sum among them is listed as its own parts. ValueError as `combine`."""
        tensors = {n: t.cpu() for n, t in _sums(model, erasures, strengths).items()}
        parts = [
            {**part, "strength": strength * part["strength"]}
            for erasure, strength in zip(erasures, strengths, strict=True)
            for part in erasure.parts
            or [{"strength": 1.0, "hash": erasure.hash, "provenance": erasure.provenance}]
        ]
        return cls(tensors, model.fingerprint, {"model": model.name, "parts": parts})

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file; a reader never sees a half-written one. ValueError if the name does
        not end in .safetensors."""
        named = {PREFIX + n if n.endswith((DOWN, UP)) else n: t for n, t in self.tensors.items()}
        record = json.dumps(self.provenance)
        return write_safetensors(path, named, {"format": FORMAT, "base": self.base, "provenance": record})

    @classmethod
    def load(cls, path: str | Path) -> Erasure:
        """Read what `save` wrote. ValueError if that is not readable (see `read_safetensors`) or not ours."""
        (metadata, tensors), name = read_safetensors(path), Path(path).name
        if metadata.get("format") != FORMAT:
            raise ValueError(
                f"{name} is no erasure that ESD Lab saved (its metadata names no format {FORMAT!r}); others, "
                "with their model, are read by esd_core.exchange.formats.load_erasure"
            )
        return cls.from_file(name, metadata, tensors)

    @classmethod
    def from_file(cls, name: str, metadata: dict[str, str], tensors: dict[str, Tensor]) -> Erasure:
        """The erasure in a file's metadata and tensors. ValueError, by `name`, if its record is damaged."""
        try:
            provenance = dict(json.loads(metadata.get("provenance", "{}")))
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"{name}: its provenance is no JSON object: {error}") from error
        named = {n.removeprefix(PREFIX): t for n, t in tensors.items()}
        return cls(named, metadata.get("base", ""), provenance)


def combine(
    model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
) -> UNet2DConditionModel:
    """Add up several erasures: W + sum_i strength_i * (W_i - W) for every changed tensor W. ValueError if an
    erasure belongs to another model, a strength is out of range, or the lists differ in length."""
    total = Erasure(_sums(model, erasures, strengths), "")
    edited = shared_copy(model.unet, list(total.changes))
    for name in total.changes:
        base = edited.get_parameter(name).detach()
        value = total.value(name, base.float()).to(base.dtype)
        set_parameter(edited, name, nn.Parameter(value, requires_grad=False))
    return edited


def _sums(
    model: DiffusionModel, erasures: Sequence[Erasure], strengths: Sequence[float]
) -> dict[str, Tensor]:
    """The tensors of what `combine` adds up, new ones: of LoRAs s B A + s' B' A' = [s B, s' B'] [A; A'], else
    the values of whole matrices, float32 on the model's device."""
    if len(erasures) != len(strengths):
        raise ValueError(f"{len(erasures)} erasures but {len(strengths)} strengths")
    if wrong := [s for s in strengths if not STRENGTHS[0] <= s <= STRENGTHS[1]]:
        raise ValueError(f"strength is {wrong[0]!r}; use a number from -10 to 10")
    for erasure in erasures:
        erasure.check(model)
    sums, parts = dict[str, Tensor](), list(zip(erasures, strengths, strict=True))
    if all(erasure.is_lora for erasure in erasures):
        for name in dict.fromkeys(n for e in erasures for n in e.tensors):
            up = name.endswith(UP)
            own = [(s if up else 1) * e.tensors[name] for e, s in parts if name in e.tensors]
            sums[name] = torch.cat(own, dim=int(up))
        return sums
    for name in dict.fromkeys(n for e in erasures for n in e.changes):
        base = model.unet.get_parameter(name).detach().float()
        first, *others = (e.value(name, base, s) for e, s in parts if name in e.changes)
        sums[name] = first + sum(value - base for value in others)
    return sums
