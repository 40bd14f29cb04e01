"""Which pictures tell whether a concept is gone and others stayed; and the drawing of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core.models import DiffusionModel
from esd_core.sampling import generate
from esd_core.study.clip_probe import Probe
from esd_core.vocabulary import Concept, Kind, joined

BATCH = 16  # pictures drawn at once
NEIGHBOURS = 4  # concepts


@dataclass(frozen=True)
class Ask:
    """One picture to draw: an object, in a style and on a background, each of which may be left out."""

    seed: int
    shows: tuple[Concept, ...] = ()

    @property
    def prompt(self) -> str:
        """All that it shall show, in words."""
        return joined(self.shows)

    def of_kind(self, kind: Kind) -> Concept | None:
        """The concept of that kind that the prompt names."""
        return next((c for c in self.shows if c.kind == kind), None)


def asks(probe: Probe, concept: Concept, pictures: int = 28, first_seed: int = 0) -> dict[str, list[Ask]]:
    """What to draw for one erased concept, with seeds from `first_seed` on.

    Objects are asked for plainly and in every style the vocabulary has, styles and backgrounds with
    many objects. `others` are the same for every concept but for what must be left out.

    Returns:
        concept: `pictures` that show it.
        neighbours: of an object: half as many, of the objects most similar to it.
        others: twice as many, of other concepts of its kind.
        empty prompt: four pictures that name nothing.

    Raises:
        ValueError: `pictures` is below 1, or the vocabulary has no other concept of this kind.
    """
    if pictures < 1:
        raise ValueError(f"pictures is {pictures!r}; use 1 or more")
    everyone = mixed(probe, concept.kind)
    if everyone == [concept]:
        raise ValueError(f"the vocabulary has no other {concept.kind} to compare {concept.name!r} with")
    count = min(NEIGHBOURS, (len(everyone) - 1) // 2) if concept.kind == "object" else 0
    near = probe.neighbours(concept, count)
    others = ((i, c) for i, c in enumerate(cycle(everyone)) if c not in (concept, *near))
    asked = {
        "concept": [(i, concept) for i in range(pictures)],
        "neighbours": [(i // count, near[i % count]) for i in range(count and max(pictures // 2, count))],
        "others": islice(others, 2 * pictures),
    }
    groups = {group: [dressed(probe, c, i) for i, c in each] for group, each in asked.items()}
    groups["empty prompt"] = [Ask(seed) for seed in range(4)]
    return {g: [replace(a, seed=first_seed + a.seed) for a in x] for g, x in groups.items() if x}


def mixed(probe: Probe, kind: Kind) -> list[Concept]:
    """The vocabulary's concepts of a kind, shuffled, always in the same way."""
    found = probe.vocabulary.of_kind(kind)
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return [found[i] for i in order.tolist()]


def dressed(probe: Probe, concept: Concept, number: int) -> Ask:
    """The concept's picture of that number, which is its seed too: an object in one of the styles or none,
    a style or background with one of the objects."""
    if concept.kind == "object":
        styles = [(), *((style,) for style in probe.vocabulary.of_kind("style"))]
        return Ask(number, (concept, *styles[number % len(styles)]))
    thing = islice(cycle(mixed(probe, "object")), number, number + 1)
    return Ask(number, (*thing, concept))


class Gallery:
    """Draws pictures with options of `sample`; those of the frozen model only once, however many erasures are
    compared. Ten steps of DPM-Solver++ are enough to recognise what they show, at half the price of twenty of
    DDIM."""

    def __init__(self, model: DiffusionModel, **options: Any) -> None:
        self.model, self._base = model, dict[Ask, Tensor]()
        self.options = {"num_inference_steps": 10, "scheduler": "dpm++", **options}

    def base(self, asks: Sequence[Ask]) -> Tensor:
        """The frozen model's pictures `(B, 3, H, W)` in [0, 1]."""
        missing = [a for a in dict.fromkeys(asks) if a not in self._base]
        self._base.update(zip(missing, self.edited(missing, None), strict=True))
        return torch.stack([self._base[a] for a in asks])

    def edited(self, asks: Sequence[Ask], unet: UNet2DConditionModel | None) -> Tensor:
        """An edited UNet's pictures `(B, 3, H, W)` in [0, 1], from the same noise."""
        parts = [asks[i : i + BATCH] for i in range(0, len(asks), BATCH)]
        options = {"unet": unet, **self.options}
        drawn = [
            generate(self.model, [a.prompt for a in p], seeds=[a.seed for a in p], **options) for p in parts
        ]
        return torch.cat(drawn) if drawn else torch.empty(0)
