"""Words: what a visitor may ask for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from esd_core import DiffusionModel, Target
from esd_core.config import refuse_too_many

FAVOURITE = "umbrella"  # on the first page: it goes plainly, and its controls stay


def phrase(model: DiffusionModel, text: str) -> str:
    """The prompt for what a visitor picked or typed: "cat" -> "a cat"; other text as it is."""
    text = " ".join((text or "").split())
    if not text:
        raise ValueError("name a concept to erase, for example 'cat'")
    found = model.vocabulary.find(text) if model.vocabulary else None
    if found:
        return found.phrase
    refuse_unknown_words(model, text)
    return text


def targets(model: DiffusionModel, text: str, erase_from: str) -> list[Target]:
    """Concepts, and what to erase each from, separated by commas or new lines."""
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


def field(model: DiffusionModel, label: str, info: str, **more: Any) -> gr.Dropdown | gr.Textbox:
    """Where a visitor names a concept: from the model's list if it has one, else in any words."""
    first, names = first_choice(model), choices(model)
    if not names:
        return gr.Textbox(first, label=label, max_length=300)
    return gr.Dropdown(names, value=first, allow_custom_value=True, label=label, info=info, **more)


def choices(model: DiffusionModel) -> list[str]:
    """Names of everything the model was taught, in the order of its list; [] if it has none."""
    return [c.name for c in model.vocabulary.concepts] if model.vocabulary else []


def first_choice(model: DiffusionModel) -> str:
    """What the first click erases."""
    names = choices(model) or ["Van Gogh"]
    return FAVOURITE if FAVOURITE in names else names[0]
