"""Is the concept still there? Scores of generated pictures by the model's own CLIP.

`presence` is the mean cosine similarity with the concept's phrase minus that with the average phrase of its
kind, so that 0 is "no more than anything else"; `accuracy`, how often zero-shot classification is right
(Learning Transferable Visual Models From Natural Language Supervision, Radford et al., 2021, arXiv
2103.00020). CLIP was trained beside the model it judges: for independent figures see tools/judge.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from esd_core.models import DiffusionModel
from esd_core.sampling import generating
from esd_core.vocabulary import Concept, Kind, Vocabulary


@dataclass(frozen=True)
class Score:
    """What the probe says of one group of prompts."""

    group: str  # concept | neighbours | unrelated | empty prompt
    prompts: tuple[str, ...]
    presence: float  # of the erased concept, mean over the pictures
    accuracy: float | None  # share of pictures named as their own prompt; None for the empty prompt


class Probe:
    """The CLIP of a model with a vocabulary. `Probe.of` loads it once in a process."""

    def __init__(self, clip_path: Path, vocabulary: Vocabulary, device: str) -> None:
        self.vocabulary = vocabulary
        self.clip = CLIPModel.from_pretrained(clip_path).to(device).float().eval()
        try:
            scale = CLIPImageProcessorPil.from_pretrained(clip_path)
        except OSError:  # saved without one: OpenAI's
            scale = CLIPImageProcessorPil()
        self.mean, self.std = torch.tensor([scale.image_mean, scale.image_std], device=device)[
            ..., None, None
        ]
        phrases = [c.phrase for c in vocabulary.concepts]
        read = CLIPTokenizer.from_pretrained(clip_path)(phrases, padding="max_length", return_tensors="pt")
        with torch.no_grad():
            texts = self.clip.get_text_features(input_ids=read.input_ids.to(device)).pooler_output
        self.text = dict(zip(vocabulary.concepts, F.normalize(texts, dim=1), strict=True))  # (D,) each

    @staticmethod
    def of(model: DiffusionModel) -> Probe:
        """The model's probe, the same for all who ask; ValueError if it has no CLIP or no vocabulary."""
        if model.clip_path is None or model.vocabulary is None:
            raise ValueError(f"{model.name!r} has no CLIP and vocabulary to probe it with")
        return _loaded(model.clip_path, model.vocabulary, str(model.device))

    @torch.no_grad()
    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors `(B, D)` of pictures `(B, 3, H, W)` in [0, 1]."""
        size = self.clip.config.vision_config.image_size
        if images.shape[-1] != size:
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        pixels = (images.to(self.clip.device) - self.mean) / self.std
        parts = [self.clip.get_image_features(pixel_values=x).pooler_output for x in pixels.split(64)]
        return F.normalize(torch.cat(parts), dim=1)

    def concept(self, text: str) -> Concept:
        """The vocabulary's concept for a name or phrase; ValueError if it has none."""
        if found := self.vocabulary.find(text):
            return found
        names = ", ".join(c.name for c in self.vocabulary.concepts[:4])
        raise ValueError(f"{text!r} is not a concept of this model's vocabulary; name one, such as {names}")

    def _texts(self, kind: Kind) -> Tensor:
        """Of all concepts of a kind, `(K, D)`."""
        return torch.stack([self.text[c] for c in self.vocabulary.of_kind(kind)])

    def presence(self, images: Tensor, concept: Concept) -> Tensor:
        """How much more each picture resembles `concept` than the average of its kind, `(B,)`."""
        return self.embed_images(images) @ (self.text[concept] - self._texts(concept.kind).mean(0))

    def recognises(self, images: Tensor, wanted: Sequence[Concept]) -> list[bool]:
        """Whether the most similar concept of its kind is the one that each of B pictures `(B, 3, H, W)` in
        [0, 1] was asked for; `wanted` are B concepts of one kind."""
        peers = self.vocabulary.of_kind(wanted[0].kind)
        named = (self.embed_images(images) @ self._texts(wanted[0].kind).T).argmax(1).tolist()
        return [peers[i] == concept for i, concept in zip(named, wanted, strict=True)]

    def accuracy(self, images: Tensor, wanted: Sequence[Concept]) -> float:
        """Share (0 to 1) of pictures that are recognised."""
        return sum(self.recognises(images, wanted)) / len(wanted)

    def _by_similarity(self, concept: Concept) -> list[Concept]:
        """The others of its kind, the most similar phrase first."""
        order = (self._texts(concept.kind) @ self.text[concept]).argsort(descending=True).tolist()
        peers = self.vocabulary.of_kind(concept.kind)
        return [peers[i] for i in order if peers[i] != concept]

    def neighbours(self, concept: Concept, count: int = 4) -> list[Concept]:
        """The concepts of its kind with the most similar phrases first; its category's before all others."""
        ranked = self._by_similarity(concept)
        return sorted(ranked, key=lambda c: c.category != concept.category)[:count]

    def unrelated(self, concept: Concept, count: int = 4) -> list[Concept]:
        """Concepts of the same kind spread over the less similar half, least similar first."""
        ranked = self._by_similarity(concept)[::-1]
        far = ranked[: max(count, (len(ranked) + 1) // 2)]
        return far[:: max(1, len(far) // count)][:count]


_loaded = cache(Probe)


def probe(model: DiffusionModel, text: str, **options: Any) -> list[Score]:  # noqa: ANN401
    """Draw the concept, its neighbours, unrelated concepts and the empty prompt, and score each group.

    Args:
        model: a model with a vocabulary and a CLIP.
        text: the concept, by name ("cat") or phrase ("a cat").
        options: seeds, a picture of every prompt for each (default 0 to 3); and of `sample`: unet, the
            edited one (default the frozen one), guidance_scale, num_inference_steps.

    Raises:
        ValueError: the model cannot be probed, the concept is unknown, or `sample` refuses an option.
    """
    return [at for at in probing(model, text, **options) if isinstance(at, Score)]


def probing(
    model: DiffusionModel, text: str, *, seeds: Sequence[int] = range(4), **options: Any
) -> Iterator[Score | int]:
    """The steps of `probe`: yields after each how many a group has made, and every group's score."""
    judge = Probe.of(model)
    concept, seeds = judge.concept(text), list(seeds)
    groups = {
        "concept": [concept],
        "neighbours": judge.neighbours(concept),
        "unrelated": judge.unrelated(concept),
        "empty prompt": [],
    }
    for group, concepts in groups.items():
        phrases, wanted = [c.phrase for c in concepts] or [""], [c for c in concepts for _ in seeds]
        prompts, noises = [phrase for phrase in phrases for _ in seeds], seeds * len(phrases)
        images = yield from generating(model, prompts, lambda step: step.step + 1, seeds=noises, **options)
        presence = judge.presence(images, concept).mean().item()
        yield Score(group, tuple(phrases), presence, judge.accuracy(images, wanted) if wanted else None)
