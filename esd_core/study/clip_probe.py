"""Is the concept still there? Scores of generated pictures by the model's own CLIP.

Two numbers for a set of pictures: `presence`, the mean cosine similarity with the concept's phrase
minus that with the average phrase of its kind (so 0 is "no more than anything else"), and
`accuracy`, how often zero-shot classification over the whole vocabulary names the right thing.
Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021),
arXiv 2103.00020.

CLIP was trained beside the model it judges: for independent figures see tools/judge.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from esd_core.models import DiffusionModel
from esd_core.sampling import Step, generating
from esd_core.vocabulary import Concept


@dataclass(frozen=True)
class Score:
    """What the probe says of one group of prompts."""

    group: str  # concept | neighbours | unrelated | empty prompt
    prompts: tuple[str, ...]
    presence: float  # of the erased concept, mean over the pictures
    accuracy: float | None  # share of pictures named as their own prompt; None for the empty prompt


_loaded: dict[tuple[Any, ...], Probe] = {}  # by CLIP, vocabulary and device
_loading = threading.Lock()


class Probe:
    """The CLIP of a model with a vocabulary.

    Raises:
        ValueError: the model has no CLIP or no vocabulary beside it.
    """

    def __init__(self, model: DiffusionModel) -> None:
        if model.clip_path is None or model.vocabulary is None:
            raise ValueError(f"{model.name!r} has no CLIP and vocabulary to probe it with")
        self.vocabulary = model.vocabulary
        self.clip = CLIPModel.from_pretrained(model.clip_path).to(model.device).float().eval()
        try:
            scale = CLIPImageProcessorPil.from_pretrained(model.clip_path)
        except OSError:  # saved without one: OpenAI's
            scale = CLIPImageProcessorPil()
        self.mean, self.std = (
            torch.tensor(values, device=model.device)[:, None, None]
            for values in (scale.image_mean, scale.image_std)
        )
        self.tokenizer = CLIPTokenizer.from_pretrained(model.clip_path)
        self.text = {
            c.name: e
            for c, e in zip(
                self.vocabulary.concepts,
                self.embed_text([c.phrase for c in self.vocabulary.concepts]),
                strict=True,
            )
        }

    @classmethod
    def of(cls, model: DiffusionModel) -> Probe:
        """The model's probe, loaded once in a process for all who ask.

        Raises:
            ValueError: the model has no CLIP or no vocabulary beside it.
        """
        key = (model.clip_path, model.vocabulary, str(model.device))
        with _loading:
            if key not in _loaded:
                _loaded[key] = cls(model)
            return _loaded[key]

    @torch.no_grad()
    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors `(B, D)`."""
        ids = self.tokenizer(list(prompts), padding="max_length", return_tensors="pt").input_ids
        features = self.clip.get_text_features(input_ids=ids.to(self.clip.device))
        return F.normalize(features.pooler_output, dim=1)

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
        """The vocabulary's concept for a name or phrase.

        Raises:
            ValueError: the vocabulary has no such concept.
        """
        found = self.vocabulary.find(text)
        if found is None:
            names = ", ".join(c.name for c in self.vocabulary.concepts[:4])
            raise ValueError(
                f"{text!r} is not a concept of this model's vocabulary; name one, such as {names}"
            )
        return found

    def _peers(self, concept: Concept) -> tuple[list[Concept], Tensor]:
        peers = list(self.vocabulary.of_kind(concept.kind))
        return peers, torch.stack([self.text[c.name] for c in peers])

    def presence(self, images: Tensor, concept: Concept) -> Tensor:
        """How much more each picture resembles `concept` than the average of its kind, `(B,)`."""
        seen = self.embed_images(images)
        _, text = self._peers(concept)
        return seen @ self.text[concept.name] - (seen @ text.T).mean(dim=1)

    def classify(self, images: Tensor, kind: str) -> list[str]:
        """The name of the most similar concept of a kind for each of `(B, 3, H, W)` in [0, 1]."""
        peers = [c for c in self.vocabulary.concepts if c.kind == kind]
        text = torch.stack([self.text[c.name] for c in peers])
        return [peers[i].name for i in (self.embed_images(images) @ text.T).argmax(1).tolist()]

    def accuracy(self, images: Tensor, concepts: Sequence[Concept]) -> float:
        """Share (0 to 1) of pictures whose most similar concept is the one they were asked for.

        Args:
            images: `(B, 3, H, W)` in [0, 1].
            concepts: B of one kind.
        """
        kind = concepts[0].kind
        named = self.classify(images, kind)
        return sum(n == c.name for n, c in zip(named, concepts, strict=True)) / len(named)

    def neighbours(self, concept: Concept, count: int = 4) -> list[Concept]:
        """The concepts of the same kind with the most similar phrases, nearest first; those of the
        same category (animals, food) come before all others."""
        peers, text = self._peers(concept)
        order = (text @ self.text[concept.name]).argsort(descending=True).tolist()
        ranked = [peers[i] for i in order if peers[i] != concept]
        return sorted(ranked, key=lambda c: c.category != concept.category)[:count]

    def unrelated(self, concept: Concept, count: int = 4) -> list[Concept]:
        """Concepts of the same kind spread over the less similar half, least similar first."""
        peers, text = self._peers(concept)
        order = (text @ self.text[concept.name]).argsort().tolist()
        far = [peers[i] for i in order if peers[i] != concept][: max(count, len(peers) // 2)]
        return far[:: max(1, len(far) // count)][:count]


def steps_made(step: Step) -> int:
    """In a drawing, after this one."""
    return step.step + 1


def probe(model: DiffusionModel, text: str, **options: Any) -> list[Score]:  # noqa: ANN401
    """The scores of `probing`, which has the same options, at once."""
    return [at for at in probing(model, text, **options) if isinstance(at, Score)]


def probing(
    model: DiffusionModel,
    text: str,
    *,
    unet: UNet2DConditionModel | None = None,
    judge: Probe | None = None,
    seeds: Sequence[int] = range(4),
    guidance_scale: float = 4.0,
    num_inference_steps: int = 20,
) -> Iterator[Score | int]:
    """Draw the concept, its neighbours, unrelated concepts and the empty prompt; yield each score.

    In between, so that an app can let others compute, it yields the steps made in a group.

    Args:
        model: a model with a vocabulary and a CLIP.
        text: the concept, by name ("cat") or phrase ("a cat").
        unet: probe this edited UNet instead of the frozen one.
        judge: reuse a loaded `Probe`.
        seeds: pictures per prompt.

    Raises:
        ValueError: the model cannot be probed, or the concept is unknown.
    """
    judge = judge or Probe.of(model)
    concept = judge.concept(text)
    groups = {
        "concept": [concept],
        "neighbours": judge.neighbours(concept),
        "unrelated": judge.unrelated(concept),
    }
    options: dict[str, Any] = dict(
        unet=unet, guidance_scale=guidance_scale, num_inference_steps=num_inference_steps
    )
    for group, concepts in groups.items():
        asked = [c for c in concepts for _ in seeds]
        images = yield from generating(
            model, [c.phrase for c in asked], steps_made, seeds=list(seeds) * len(concepts), **options
        )
        presence = judge.presence(images, concept).mean().item()
        accuracy = judge.accuracy(images, asked)
        yield Score(group, tuple(c.phrase for c in concepts), presence, accuracy)
    images = yield from generating(model, "", steps_made, seeds=list(seeds), **options)
    presence = judge.presence(images, concept).mean().item()
    yield Score("empty prompt", ("",), presence, None)
