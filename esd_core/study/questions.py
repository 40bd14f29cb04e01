"""Which pictures tell whether a concept is gone and others stayed; and the drawing of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core.models import DiffusionModel
from esd_core.sampling import generate
from esd_core.study.clip_probe import Probe
from esd_core.vocabulary import Concept, joined

BATCH = 16  # pictures drawn at once
NEIGHBOURS = 4  # concepts


@dataclass(frozen=True)
class Ask:
    """One picture to draw, and the concepts that its prompt names."""

    prompt: str
    seed: int
    shows: tuple[Concept, ...] = ()

    def of_kind(self, kind: str) -> Concept | None:
        """The concept of that kind that the prompt names."""
        return next((c for c in self.shows if c.kind == kind), None)


def ask(seed: int, *shows: Concept | None) -> Ask:
    """A picture of an object, in a style and on a background, each of which may be left out."""
    named = [c for c in shows if c is not None]
    return Ask(joined(named), seed, tuple(named))


def asks(probe: Probe, concept: Concept, pictures: int = 28, first_seed: int = 0) -> dict[str, list[Ask]]:
    """What to draw for one erased concept.

    Objects are asked for plainly and in every style the vocabulary has, styles and backgrounds with
    many objects. `others` are the same for every concept but for what must be left out. Noise has
    seeds from `first_seed` on.

    Returns:
        concept: `pictures` that show it.
        neighbours: of an object: half as many, of the objects most similar to it.
        others: twice as many, of other concepts of its kind.
        empty prompt: four pictures that name nothing.

    Raises:
        ValueError: the vocabulary has no other concept of this kind.
    """
    objects, peers = mixed(probe, "object"), [c for c in mixed(probe, concept.kind) if c != concept]
    if not peers:
        raise ValueError(f"the vocabulary has no other {concept.kind} to compare {concept.name!r} with")
    near = []
    if concept.kind == "object":
        near = probe.neighbours(concept, min(NEIGHBOURS, len(peers) // 2))
    groups = {"concept": [dressed(probe, concept, objects, i) for i in range(pictures)]}
    if near:
        groups["neighbours"] = [
            dressed(probe, near[i % len(near)], objects, i // len(near))
            for i in range(max(pictures // 2, len(near)))
        ]
    groups["others"] = list(islice(others(probe, concept, near), 2 * pictures))
    groups["empty prompt"] = [ask(seed) for seed in range(4)]
    return {g: [replace(a, seed=first_seed + a.seed) for a in x] for g, x in groups.items()}


def mixed(probe: Probe, kind: str) -> list[Concept]:
    """The vocabulary's concepts of a kind, shuffled, always in the same way."""
    found = [c for c in probe.vocabulary.concepts if c.kind == kind]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
    return [found[i] for i in order.tolist()]


def dressed(probe: Probe, concept: Concept, objects: Sequence[Concept], number: int) -> Ask:
    """The concept's picture of that number, which is its seed too."""
    if concept.kind == "object":
        styles = [None, *(c for c in probe.vocabulary.concepts if c.kind == "style")]
        return ask(number, concept, styles[number % len(styles)])
    return ask(number, objects[number % len(objects)] if objects else None, concept)


def others(probe: Probe, concept: Concept, without: Sequence[Concept]) -> Iterator[Ask]:
    """Pictures of other concepts of its kind, without end."""
    objects, peers = mixed(probe, "object"), mixed(probe, concept.kind)
    for number in count():
        peer = peers[number % len(peers)]
        if peer == concept or peer in without:
            continue
        yield dressed(probe, peer, objects, number)


class Gallery:
    """Draws pictures; those of the frozen model only once, however many erasures are compared.

    Ten steps of DPM-Solver++ are enough to recognise what a picture shows, at half the price of
    twenty of DDIM.
    """

    def __init__(
        self,
        model: DiffusionModel,
        *,
        guidance_scale: float = 4.0,
        num_inference_steps: int = 10,
        scheduler: str = "dpm++",
    ) -> None:
        self.model = model
        self.options = dict(
            guidance_scale=guidance_scale, num_inference_steps=num_inference_steps, scheduler=scheduler
        )
        self._base: dict[tuple[str, int], Tensor] = {}

    def base(self, asks: Sequence[Ask]) -> Tensor:
        """The frozen model's pictures `(B, 3, H, W)`."""
        missing = list({(a.prompt, a.seed): a for a in asks if (a.prompt, a.seed) not in self._base}.values())
        for ask, picture in zip(missing, self.edited(missing, None), strict=True):
            self._base[ask.prompt, ask.seed] = picture
        return torch.stack([self._base[a.prompt, a.seed] for a in asks])

    def edited(self, asks: Sequence[Ask], unet: UNet2DConditionModel | None) -> Tensor:
        """An edited UNet's pictures `(B, 3, H, W)`, from the same noise."""
        parts = [asks[i : i + BATCH] for i in range(0, len(asks), BATCH)]
        drawn = [
            generate(
                self.model, [a.prompt for a in part], seeds=[a.seed for a in part], unet=unet, **self.options
            )
            for part in parts
        ]
        return torch.cat(drawn) if drawn else torch.empty(0)
