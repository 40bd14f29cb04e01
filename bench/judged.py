"""How often a model draws an object when it is asked to, by the independent judge."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import DiffusionModel, generate
from tools import data, judge
from tools.catalog import OBJECTS

NAMES = [o.name for o in OBJECTS]
AT_ONCE = 32  # pictures sampled in one batch


@dataclass(frozen=True)
class Watch:
    """Prompts of one concept and of others, the same ones and the same noise at every look."""

    concept: Tensor  # (N, 3) labels
    others: Tensor  # (M, 3)

    @classmethod
    def over(cls, name: str, concept: int = 24, others: int = 48) -> Watch:
        """The named object in every style in turn, and other objects, seeded."""
        styles = len(data.STYLE_NAMES)
        index = NAMES.index(name)
        kin = torch.tensor([i for i in range(len(NAMES)) if i != index])
        picked = kin[torch.randperm(len(kin), generator=torch.Generator().manual_seed(0))]
        rows = [torch.full((concept,), index), picked.repeat(-(-others // len(kin)))[:others]]
        made = [torch.stack([r, torch.arange(len(r)) % styles, torch.full_like(r, -1)], 1) for r in rows]
        return cls(*made)

    def accuracy(
        self, model: DiffusionModel, marker: judge.Judge, unet: UNet2DConditionModel | None = None
    ) -> dict[str, float]:
        """Share of pictures in which the judge sees the object that was asked for."""
        found = {}
        for group, labels in (("concept", self.concept), ("others", self.others)):
            prompts = [data.caption(*label) for label in labels.tolist()]
            images = [
                generate(
                    model, prompts[i : i + AT_ONCE], seeds=range(i, min(i + AT_ONCE, len(prompts))), unet=unet
                )
                for i in range(0, len(prompts), AT_ONCE)
            ]
            right = judge.correct(marker, torch.cat(images), labels)["object"]
            found[group] = right.float().mean().item()
        return found
