"""Words: what a visitor may ask for, and which prompts are watched while a concept goes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from esd_core import DiffusionModel, EraseConfig, Target
from esd_core.config import refuse_too_many
from esd_core.vocabulary import Concept, Vocabulary

FAVOURITE = "umbrella"  # on the first page: it goes plainly, and its controls stay
SUBJECT = "house"  # styles and backgrounds differ most visibly on it
STRANGERS = ("rocket", "heart")  # drawn so clearly that any harm to them shows


@dataclass(frozen=True)
class Watched:
    """One prompt drawn before and during an erasure."""

    role: str  # what it is to the erased concept
    prompt: str
    shows: Concept | None = None  # what the vocabulary calls it


def phrase(model: DiffusionModel, text: str) -> str:
    """The prompt for what a visitor picked or typed: "cat" -> "a cat"; other text as it is.

    Raises:
        ValueError: nothing was given, or the model has never seen a word of it.
    """
    text = " ".join((text or "").split())
    if not text:
        raise ValueError("name a concept to erase, for example 'cat'")
    found = model.vocabulary.find(text) if model.vocabulary else None
    if found:
        return found.phrase
    refuse_unknown_words(model, text)
    return text


def targets(model: DiffusionModel, text: str, erase_from: str) -> list[Target]:
    """Concepts, and what to erase each from, separated by commas or new lines.

    Raises:
        ValueError: as `phrase`; or there are too many, or neither no contexts, nor one, nor one
            for each.
    """
    named, places = (
        [part for part in re.split(r"[,\n]", given or "") if part.strip()] for given in (text, erase_from)
    )
    if not named:
        phrase(model, "")  # says what to do
    refuse_too_many(len(named))  # before each is looked up
    if len(places) not in (0, 1, len(named)):
        raise ValueError(
            f"erase_from is {erase_from!r}: {len(places)} contexts for {len(named)} concepts; "
            "give none, one for all, or one for each"
        )
    concepts = [phrase(model, part) for part in named]
    with of_context(erase_from):
        contexts = [phrase(model, part) for part in places]
    if len(contexts) <= 1:
        contexts = (contexts or [""]) * len(concepts)
    return [Target(*pair) for pair in zip(concepts, contexts, strict=True)]


@contextmanager
def of_context(erase_from: str) -> Iterator[None]:
    """A refusal begins with what it is about, so that the page can show it there."""
    try:
        yield
    except ValueError as refused:
        raise ValueError(f"erase_from is {erase_from!r}: {refused}") from refused


def refuse_unknown_words(model: DiffusionModel, prompt: str) -> None:
    """Raise ValueError, naming them, if `prompt` has words that the model was never taught."""
    unknown = model.unknown_words(prompt)
    if not unknown or model.vocabulary is None:
        return
    names = [c.name for c in model.vocabulary.concepts]
    close = dict.fromkeys(n for w in unknown for n in difflib.get_close_matches(w, names, n=2))
    kinds = ("object", "style", "background")
    counts = ", ".join(f"{len(model.vocabulary.of_kind(kind))} {kind}s" for kind in kinds)
    hint = f"; did you mean {' or '.join(close)}?" if close else f", such as {', '.join(names[:4])}"
    raise ValueError(
        f"the model has never seen: {', '.join(unknown)}; it knows the {counts} of its list{hint}"
    )


def choices(model: DiffusionModel) -> list[str]:
    """Names of everything the model was taught, in the order of its list; [] if it has none."""
    return [c.name for c in model.vocabulary.concepts] if model.vocabulary else []


def first_choice(model: DiffusionModel) -> str:
    """What the first click erases."""
    names = choices(model)
    return FAVOURITE if FAVOURITE in names or not names else names[0]


def watched(model: DiffusionModel, text: str, besides: Sequence[str] = ()) -> list[Watched]:
    """The concept itself, a near neighbour, and something unrelated; neither of them is erased.

    A control is left out if the vocabulary has none: words such as "red", which name no concept,
    have no neighbour. Without a vocabulary the empty prompt is the only control there is.

    Args:
        besides: what else the run is about.
    """
    words = model.vocabulary
    if words is None:
        return [Watched("the concept", text), Watched("no words", "")]
    concept, taken = mentioned(words, text), all_mentioned(words, [text, *besides])
    near = _neighbour(model, concept, taken) if concept else None
    far = _stranger(words, taken | {near} if near else taken)
    first, on = text, ""
    if concept and concept.kind != "object":  # it shows best on one and the same thing
        subject = words.find(SUBJECT) or words.of_kind("object")[0]
        on = f"{subject.phrase} {'in' if concept.kind == 'style' else 'on'} "
        first = f"{on}{text}" if text == concept.phrase else text
    listed = [Watched("the concept", first, concept)]
    listed += [Watched("a neighbour", f"{on}{near.phrase}", near)] if near else []
    return [*listed, *([Watched("unrelated", far.phrase, far)] if far else [])]


def watched_in(model: DiffusionModel, config: EraseConfig) -> list[Watched]:
    """The same for a run: its first concepts, what they are erased from, and the two controls."""
    texts = [text for t in config.concepts for text in (t.concept, t.erase_from) if text]
    first, *controls = watched(model, texts[0], texts[1:])
    listed = [Watched("the context", t.erase_from) for t in config.concepts[:2] if t.erase_from]
    words = model.vocabulary
    listed += [
        Watched("a concept too", t.concept, mentioned(words, t.concept) if words else None)
        for t in config.concepts[1:3]
    ]
    shown: dict[str, Watched] = {}
    for item in (first, *listed, *controls):
        shown.setdefault(item.prompt, item)
    return list(shown.values())


def mentioned(vocabulary: Vocabulary, text: str) -> Concept | None:
    """The concept that `text` names, or the first of the list that it mentions."""
    words = f" {text.lower().replace(',', ' ')} "
    named = (c for c in vocabulary.concepts if f" {c.name} " in words)
    return vocabulary.find(text) or next(named, None)


def all_mentioned(vocabulary: Vocabulary, texts: Sequence[str]) -> set[Concept]:
    """Every concept that one of these texts names."""
    words = " ".join(f" {text.lower().replace(',', ' ')} " for text in texts)
    named = (vocabulary.find(text) for text in texts)
    return {*filter(None, named), *(c for c in vocabulary.concepts if f" {c.name} " in words)}


def _stranger(vocabulary: Vocabulary, taken: set[Concept]) -> Concept | None:
    """An object of none of their categories, if there is one."""
    known = [c for name in STRANGERS if (c := vocabulary.find(name))]
    objects = [c for c in (*known, *vocabulary.of_kind("object")) if c not in taken]
    near = {c.category for c in taken}
    return next((c for c in objects if c.category not in near), objects[-1] if objects else None)


@torch.no_grad()
def _neighbour(model: DiffusionModel, concept: Concept, taken: set[Concept]) -> Concept | None:
    """The one of its category whose phrase the text encoder finds most similar."""
    assert model.vocabulary is not None
    kin = [c for c in model.vocabulary.of_kind(concept.kind) if c not in taken]
    kin = [c for c in kin if c.category == concept.category] or kin
    if not kin:
        return None
    ids = model.tokenize([concept.phrase, *(c.phrase for c in kin)])["input_ids"]
    read = torch.tensor(ids, device=model.text_encoder.device)
    states = model.text_encoder(read).pooler_output.float()
    return kin[int(F.cosine_similarity(states[:1], states[1:]).argmax())]
