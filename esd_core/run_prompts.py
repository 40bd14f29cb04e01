"""The prompts of a run: what its trajectories ask for, and what is held where it was."""

from __future__ import annotations

from collections import Counter
from itertools import cycle, islice
from typing import NamedTuple

import torch

from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel
from esd_core.study.clip_probe import Probe
from esd_core.vocabulary import joined

HELD = 16  # trajectories at least that hold other prompts
NEIGHBOURS = 12  # of the prompts that are held
COMMON = 3  # a word of more phrases than this, such as "style", does not name what is erased


class Asked(NamedTuple):
    """What one trajectory asks for, and the same without the concept."""

    prompt: str
    neutral: str = ""

    @classmethod
    def of(cls, target: Target) -> Asked:
        """The target's own prompt: its context, if it is erased from one."""
        return cls(target.erase_from or target.concept)


def asked(model: DiffusionModel, target: Target, config: EraseConfig, lines: int) -> list[Asked]:
    """The prompts of a concept's trajectories.

    A style is asked for in pictures of something, hardly ever alone, and what a model learns about
    "noto style" carries over poorly to "a cat in noto style". So with `from_objects="styles"` the
    first trajectory asks for the style alone and every other one for an object in it, and what
    stands for nothing is the object: `eps_cat - eta * (eps_cat_in_noto_style - eps_cat)`.

    Backgrounds go by their phrase: erased from objects, too, they take more of everything else along
    (bench/results/quality-from-objects.md).
    """
    plain = Asked.of(target)
    known = model.vocabulary.find(target.concept) if model.vocabulary else None
    objects = model.vocabulary.of_kind("object") if model.vocabulary else ()
    if target.erase_from or not (
        known and objects and known.kind == "style" and config.from_objects == "styles"
    ):
        return [plain] * lines
    order = torch.randperm(len(objects), generator=torch.Generator().manual_seed(config.seed))
    dressed = (Asked(joined([objects[i], known]), objects[i].phrase) for i in order.tolist())
    return [plain, *islice(cycle(dressed), lines - 1)]


def lines_held(config: EraseConfig) -> int:
    """How many trajectories hold other prompts; none that the config names is left out."""
    return max(HELD, len(config.preserve_prompts))


def held(model: DiffusionModel, config: EraseConfig) -> list[str]:
    """A prompt for each trajectory that holds another prompt where it was; they take turns."""
    return list(islice(cycle(preservation_prompts(model, config)), lines_held(config)))


def preservation_prompts(model: DiffusionModel, config: EraseConfig, count: int = HELD) -> list[str]:
    """Prompts to hold: the config's own, or else the empty prompt and phrases of the vocabulary.

    Those are the neighbours of what is erased, which suffer most, if the model has a CLIP to find
    them, and seeded others. None names a word that is being erased.
    """
    if config.preserve_prompts:
        return list(config.preserve_prompts)
    if model.vocabulary is None:
        return [""]
    used = Counter(w for c in model.vocabulary.concepts for w in c.phrase.split())
    empty = {"a", "an", *(w for w, times in used.items() if times > COMMON)}
    erased = {w for target in config.concepts for w in target.concept.lower().split()} - empty
    kept = [c for c in model.vocabulary.concepts if not erased & set(c.phrase.split())]
    order = torch.randperm(len(kept), generator=torch.Generator().manual_seed(config.seed))
    found = [c for t in config.concepts if (c := model.vocabulary.find(t.concept))]
    near = []
    if found and model.clip_path:
        probe, each = Probe.of(model), max(1, NEIGHBOURS // len(found))
        near = [n for c in found for n in probe.neighbours(c, each) if n in kept]
    chosen = dict.fromkeys(c.phrase for c in (*near, *(kept[i] for i in order.tolist())))
    return ["", *chosen][:count]
