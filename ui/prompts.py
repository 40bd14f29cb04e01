"""Words: what a visitor may ask for, and which prompts are watched while a concept goes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from esd_core import DiffusionModel
from esd_core.vocabulary import Concept

FAVOURITE = "cat"  # the concept on the first page, and the subject that shows styles and colours


@dataclass(frozen=True)
class Watched:
    """One prompt drawn before and during an erasure."""

    role: str  # what it is to the erased concept
    prompt: str


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


def watched(model: DiffusionModel, text: str) -> list[Watched]:
    """The concept itself, a near neighbour, and something unrelated.

    The neighbour is the nearest of its category in the text encoder's eyes, the unrelated one the
    farthest outside it. Without a vocabulary the empty prompt is the only control there is.
    """
    concept = _concept(model, text)
    if concept is None:
        return [Watched("the concept", text), Watched("no words at all", "")]
    assert model.vocabulary is not None
    near, far = _nearest_and_farthest(model, concept)
    if concept.kind == "object":
        listed = [text, near.phrase, far.phrase]
    else:  # a style or background shows best on one and the same thing
        subject = model.vocabulary.find(FAVOURITE) or model.vocabulary.of_kind("object")[0]
        joint = "in" if concept.kind == "style" else "on"
        own = text if text != concept.phrase else f"{subject.phrase} {joint} {text}"
        listed = [own, f"{subject.phrase} {joint} {near.phrase}", subject.phrase]
    roles = ("the concept", "a neighbour", "unrelated")
    return [Watched(role, prompt) for role, prompt in zip(roles, listed, strict=True)]


def _concept(model: DiffusionModel, text: str) -> Concept | None:
    """The vocabulary's concept that `text` names, or the first one it mentions."""
    if model.vocabulary is None:
        return None
    words = f" {text.lower()} "
    mentioned = (c for c in model.vocabulary.concepts if f" {c.name} " in words)
    return model.vocabulary.find(text) or next(mentioned, model.vocabulary.concepts[0])


@torch.no_grad()
def _nearest_and_farthest(model: DiffusionModel, concept: Concept) -> tuple[Concept, Concept]:
    """By cosine of the text encoder's pooled states: nearest in the category, farthest outside."""
    assert model.vocabulary is not None
    kin = [c for c in model.vocabulary.of_kind(concept.kind) if c != concept] or [concept]
    ids = model.tokenizer(
        [concept.phrase, *(c.phrase for c in kin)], padding="max_length",
        max_length=model.tokenizer.model_max_length, return_tensors="pt",
    ).input_ids  # fmt: skip
    states = model.text_encoder(ids.to(model.text_encoder.device)).pooler_output.float()
    order = F.cosine_similarity(states[:1], states[1:]).argsort(descending=True).tolist()
    ranked = [kin[i] for i in order]
    near = next((c for c in ranked if c.category == concept.category), ranked[0])
    far = next((c for c in reversed(ranked) if c.category != concept.category), ranked[-1])
    return near, far
