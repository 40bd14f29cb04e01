"""What an erasure erases, in words: its name on the page, its file, the prompts that put it to the test.

Its concepts may be many, and a file from elsewhere may not name any.
"""

from __future__ import annotations

import re
from html import escape

from markupsafe import Markup

from esd_core import DiffusionModel, EraseConfig, Erasure, card
from esd_core.study.watched_prompts import to_watch
from ui.server import memory
from ui.shared import markup

NOT_NAMED = "the file of this erasure does not say what it erases; write prompts of your own"


def concepts(erasure: Erasure) -> str:
    """The prompts it erases, as one text; "unknown" if its file does not tell."""
    return ", ".join(card.concepts(erasure)) or "unknown"


def quoted(erasure: Erasure) -> Markup:
    """The same for a sentence, as HTML."""
    named = card.concepts(erasure)
    return markup.quoted(", ".join(named)) if named else Markup("what its file does not say")


def made_by(erasure: Erasure) -> str:
    """What made it: "12 updates", "an edit"; "" if that is not known."""
    config, made = card.config_of(erasure), card.updates(erasure)
    if config and config.edit and not made:
        return "an edit"
    return "" if made is None else f"{made} update{'s' * (made != 1)}"


def how(erasure: Erasure) -> str:
    """What tells it from others of the same concepts: the method, η unless it is 1, what made it."""
    config = card.config_of(erasure)
    eta = f"η {config.eta:g}" if config and config.eta != 1 else ""
    return ", ".join(filter(None, [config and config.train_method, eta, made_by(erasure)]))


def named(erasure: Erasure) -> Markup:
    """What it erases and what tells it from others, for a sentence, as HTML."""
    return quoted(erasure) + (f" ({told})" if (told := how(erasure)) else "")


def of_run(config: EraseConfig) -> str:
    """What a run erases, as one text."""
    return ", ".join(target.concept for target in config.concepts)


def file_name(erasure: Erasure) -> str:
    """Says what the file does: `a-cat_esd-lora_12-updates.safetensors`."""
    concept = re.sub(r"[^\w]+", "-", concepts(erasure)).strip("-")[:40] or "concept"
    config, made = card.config_of(erasure), card.updates(erasure)
    method = config.train_method if config else "sum" if erasure.parts else "erasure"
    ending = "" if made is None else f"_{made}-updates"
    return f"{concept}_{method}{ending}.safetensors"


def download(erasure: Erasure) -> str:
    """Write its file for the download button."""
    return str(erasure.save(memory.new_file(file_name(erasure))))


def default_prompts(model: DiffusionModel, erasure: Erasure, most: int) -> list[str]:
    """The prompts that an empty box stands for: the first concept, the others one by one as far as
    there is room, a neighbour, and something unrelated.
    """
    concepts = card.concepts(erasure)
    if not concepts:
        raise ValueError(NOT_NAMED)
    first, *controls = (item.prompt for item in to_watch(model, concepts[0]))
    others = concepts[1 : max(1, most - len(controls))]
    return list(dict.fromkeys([first, *others, *controls]))


def negative_prompt(model: DiffusionModel, erasure: Erasure) -> tuple[str | None, str]:
    """Its concepts as a negative prompt, and a sentence in HTML on what was left out, if anything.

    The concepts that the text encoder has no room for are left out; None leaves the column out.
    """
    concepts, says = card.concepts(erasure), ""
    kept, room = concepts, model.tokenizer.model_max_length
    while kept and len(model.tokenize([", ".join(kept)])["input_ids"][0]) > room:
        kept = kept[:-1]
    if not kept:
        why = (
            "Its first concept is too long for this model to read"
            if concepts
            else "Its file names no concept"
        )
        says = f" {why}, so there is no column of a negative prompt."
    elif len(kept) < len(concepts):
        says = (
            f" The negative prompt has room for {len(kept)} of the {len(concepts)} concepts: "
            f"{escape(', '.join(kept))}."
        )
    return ", ".join(kept) or None, says
