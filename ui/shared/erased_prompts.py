"""What the erasure in use erases, as the prompts of an empty box and as a negative prompt.

Its concepts may be many, and a file from elsewhere may not name any.
"""

from __future__ import annotations

from html import escape

from esd_core import DiffusionModel, Erasure, card
from esd_core.study.watched_prompts import to_watch

NOT_NAMED = "the file of this erasure does not say what it erases; write prompts of your own"


def defaults(model: DiffusionModel, erasure: Erasure, most: int) -> list[str]:
    """The prompts that an empty box stands for: the first concept, the others one by one as far as
    there is room, a neighbour, and something unrelated.

    Raises:
        ValueError: it does not say what it erases.
    """
    concepts = card.concepts(erasure)
    if not concepts:
        raise ValueError(NOT_NAMED)
    first, *controls = (item.prompt for item in to_watch(model, concepts[0]))
    others = concepts[1 : max(1, most - len(controls))]
    return list(dict.fromkeys([first, *others, *controls]))


def negative(model: DiffusionModel, erasure: Erasure) -> tuple[str | None, str]:
    """Its concepts as a negative prompt, and a sentence in HTML on what was left out, if anything.

    The concepts that the text encoder has no room for are left out; None leaves the column out.
    """
    concepts = card.concepts(erasure)
    if not concepts:
        return None, " Its file names no concept, so there is no column of a negative prompt."
    kept = concepts
    while kept and not _fits(model, ", ".join(kept)):
        kept = kept[:-1]
    if not kept:
        return None, (
            " Its first concept is too long for this model to read, so there is no column of a "
            "negative prompt."
        )
    if len(kept) == len(concepts):
        return ", ".join(kept), ""
    return ", ".join(kept), (
        f" The negative prompt has room for {len(kept)} of the {len(concepts)} concepts: "
        f"{escape(', '.join(kept))}."
    )


def _fits(model: DiffusionModel, prompt: str) -> bool:
    """Whether the text encoder reads all of it."""
    return len(model.tokenize([prompt])["input_ids"][0]) <= model.tokenizer.model_max_length
