"""Which prompts to watch while a concept goes: what is erased, a near neighbour, something unrelated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from esd_core.config import Target
from esd_core.models import DiffusionModel
from esd_core.prompts import by_similarity
from esd_core.vocabulary import Concept, Vocabulary, joined

SUBJECT = "house"  # styles and backgrounds differ most visibly on it
UNRELATED = ("rocket", "heart")  # drawn so clearly that any harm to them shows
CONCEPT, NEIGHBOUR, STRANGER, EMPTY = "the concept", "a neighbour", "unrelated", "no words"


@dataclass(frozen=True)
class Watched:
    """One prompt to draw before and after erasing."""

    role: str  # what it is to the erased concept
    prompt: str
    shows: Concept | None = None  # what the vocabulary calls it


def to_watch(model: DiffusionModel, erased: str | Sequence[Target], most: int | None = None) -> list[Watched]:
    """The prompts whose pictures show whether a concept went and others stayed; none twice.

    A control is nothing that is erased or erased from. It is left out if the vocabulary has none: words
    such as "red", which name no concept, have no neighbour. Without a vocabulary the empty prompt is the
    only control.

    Args:
        erased: the concepts of a run, or one prompt.
        most: so many concepts are shown at most; default all.

    Returns:
        the first concept (a style or background on a house), contexts, further concepts, controls.
    """
    targets = [Target(erased)] if isinstance(erased, str) else list(erased)
    words, first, shown = model.vocabulary or Vocabulary((), frozenset()), targets[0].concept, targets[:most]
    texts = [text for t in targets for text in (t.concept, t.erase_from) if text]
    taken = {c for c in words.concepts if any(_names(t, c) or words.find(t) == c for t in texts)}
    concept, house, controls = mentioned(words, first), list[Concept](), list[Watched]()
    if concept:
        if concept.kind != "object":
            house = [c for c in (words.find(SUBJECT), *words.of_kind("object")) if c][:1]
        kin = [c for c in words.of_kind(concept.kind) if c not in taken]
        kin = [c for c in kin if c.category == concept.category] or kin
        near = by_similarity(model, concept, kin)[:1]
        controls = [Watched(NEIGHBOUR, joined([*house, c]), c) for c in near]
        taken.update(near)
    if far := _unrelated(words, taken):
        controls.append(Watched(STRANGER, far.phrase, far))
    start = joined([*house, concept]) if concept and first == concept.phrase else first
    listed = [
        Watched(CONCEPT, start, concept),
        *(Watched("the context", t.erase_from) for t in shown if t.erase_from),
        *(Watched("a concept too", t.concept, mentioned(words, t.concept)) for t in shown[1:]),
        *(controls or ([] if words.concepts else [Watched(EMPTY, "")])),
    ]
    return list({item.prompt: item for item in reversed(listed)}.values())[::-1]


def mentioned(vocabulary: Vocabulary, text: str) -> Concept | None:
    """The concept that `text` names, or the first of the list that it mentions."""
    return vocabulary.find(text) or next((c for c in vocabulary.concepts if _names(text, c)), None)


def _names(text: str, concept: Concept) -> bool:
    return f" {concept.name} " in f" {text.lower().replace(',', ' ')} "


def _unrelated(words: Vocabulary, taken: set[Concept]) -> Concept | None:
    """An object of none of their categories, if there is one."""
    known = [c for name in UNRELATED if (c := words.find(name))]
    objects = [c for c in (*known, *words.of_kind("object")) if c not in taken]
    near = {c.category for c in taken}
    return next((c for c in objects if c.category not in near), objects[-1] if objects else None)
