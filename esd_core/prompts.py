"""The prompts of a run: what its trajectories ask for, and what it holds where it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel
from esd_core.vocabulary import Concept, joined

CAPTIONS = Path(__file__).with_name("captions.txt")  # our own: things, places, people, artists, styles
HELD = 16  # trajectories at least that hold other prompts
NEIGHBOURS = 12  # of the prompts that are held
COMMON = 3  # a word of more phrases than this, such as "style", does not name what is erased


class Line(NamedTuple):
    """One trajectory: what it asks for, the same without the concept, and the seed of its noise."""

    prompt: str
    neutral: str = ""
    seed: int = 0


def asked(model: DiffusionModel, target: Target, config: EraseConfig, seeds: list[int]) -> list[Line]:
    """A concept's trajectories, one per seed.

    A style is asked for in pictures of something, hardly ever alone, and what a model learns about "noto
    style" carries over poorly to "a cat in noto style". So with `from_objects="styles"` the first trajectory
    asks for the style alone and every other one for an object in it, and what stands for nothing is the
    object: `eps_cat - eta * (eps_cat_in_noto_style - eps_cat)`. Backgrounds go by their phrase: erased from
    objects, they take more of everything else along (bench/results/quality-from-objects.md).
    """
    plain, words = (target.drawn, ""), model.vocabulary
    known = words.find(target.concept) if words else None
    styled = known and known.kind == "style" and config.from_objects == "styles" and not target.erase_from
    objects = words.of_kind("object") if words and styled else ()
    order = torch.randperm(len(objects), generator=torch.Generator().manual_seed(config.seed)).tolist()
    dressed = [(joined([objects[i], known]), objects[i].phrase) for i in order if known]
    each = islice(cycle([plain] if not dressed else dressed), len(seeds) - 1)
    return [Line(*words, seed) for words, seed in zip([plain, *each], seeds, strict=True)]


def held(model: DiffusionModel, config: EraseConfig) -> list[str]:
    """A prompt for each trajectory that holds another prompt where it was; they take turns."""
    return list(islice(cycle(prompts_to_hold(model, config)), max(HELD, len(config.preserve_prompts))))


def prompts_to_hold(model: DiffusionModel, config: EraseConfig, count: int = HELD) -> list[str]:
    """The config's own, or else the empty prompt and phrases of the vocabulary, if the model has one: the
    neighbours of what is erased, which suffer most, and seeded others. None names a word that is erased."""
    if config.preserve_prompts or model.vocabulary is None:
        return list(config.preserve_prompts) or [""]
    used = Counter(word for c in model.vocabulary.concepts for word in c.phrase.split())
    empty = {"a", "an", *(word for word, times in used.items() if times > COMMON)}
    erased = {word for target in config.concepts for word in target.concept.lower().split()} - empty
    kept = [c for c in model.vocabulary.concepts if not erased & set(c.phrase.split())]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(config.seed)).tolist()
    found = [c for t in config.concepts if (c := model.vocabulary.find(t.concept))]
    near = [n for c in found for n in neighbours(model, c, max(1, NEIGHBOURS // len(found))) if n in kept]
    return ["", *dict.fromkeys(c.phrase for c in (*near, *(kept[i] for i in order)))][:count]


def staying(model: DiffusionModel) -> tuple[str, ...]:
    """All that the model was taught to draw; if it does not say what, captions of what people draw, as far as
    its text encoder reads them to their end, and the empty prompt."""
    if model.vocabulary:
        return model.vocabulary.captions()
    captions, limit = (
        ["", *CAPTIONS.read_text(encoding="utf-8").splitlines()],
        model.tokenizer.model_max_length,
    )
    rows = model.tokenize(captions)["input_ids"]
    return tuple(text for text, ids in zip(captions, rows, strict=True) if len(ids) <= limit)


def naming(model: DiffusionModel, config: EraseConfig, prompts: Sequence[str]) -> list[str]:
    """Those of some prompts that name what is erased, or what it is erased from."""
    named, words = set[str](), model.vocabulary
    for text in (text for target in config.concepts for text in (target.concept, target.erase_from) if text):
        if words and (known := words.find(text)):
            named.update(words.captions(known))
        else:
            asked_for = set(text.lower().split()) - {"a", "an", "the", "in", "on", "of", "style"}
            named.update(p for p in prompts if asked_for <= set(p.lower().split()))
    return [prompt for prompt in prompts if prompt in named]


def neighbours(model: DiffusionModel, concept: Concept, count: int) -> list[Concept]:
    """The concepts of the same kind with the most similar phrases, nearest first; those of the same category
    (animals, food) come before all others."""
    assert model.vocabulary is not None
    ranked = by_similarity(model, concept, model.vocabulary.of_kind(concept.kind))
    return sorted(ranked, key=lambda c: c.category != concept.category)[:count]


def by_similarity(model: DiffusionModel, concept: Concept, among: Sequence[Concept]) -> list[Concept]:
    """`among` without the concept, the most similar phrase first: by the cosine of the text encoder's states
    at a phrase's last token, which has read all of it."""
    peers = [c for c in among if c != concept]
    phrases = [c.phrase for c in (concept, *peers)]
    ends = torch.tensor([sum(mask) - 1 for mask in model.tokenize(phrases)["attention_mask"]])
    states = F.normalize(model.encode(phrases)[range(len(phrases)), ends], dim=1)
    return [peers[i] for i in (states[1:] @ states[0]).argsort(descending=True).tolist()]
