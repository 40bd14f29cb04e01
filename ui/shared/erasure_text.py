"""What the page calls an erasure: its concepts, its updates, its file."""

from __future__ import annotations

import re

from markupsafe import Markup

from esd_core import EraseConfig, Erasure, card
from ui.server import session
from ui.shared import pictures


def concepts(erasure: Erasure) -> str:
    """The prompts it erases, as one text; "unknown" if its file does not tell."""
    return ", ".join(card.concepts(erasure)) or "unknown"


def quoted(erasure: Erasure) -> Markup:
    """The same for a sentence, as HTML."""
    named = card.concepts(erasure)
    return pictures.quoted(", ".join(named)) if named else Markup("what its file does not say")


def by_updates(erasure: Erasure) -> str:
    """How many made it, if that is known."""
    made = card.updates(erasure)
    return "" if made is None else f" by {made} updates"


def of_run(config: EraseConfig) -> str:
    """What a run erases, as one text."""
    return ", ".join(target.concept for target in config.concepts)


def file_name(erasure: Erasure) -> str:
    """Says what the file does: `a-cat_esd-x_40-updates.safetensors`."""
    concept = re.sub(r"[^\w]+", "-", concepts(erasure)).strip("-")[:40] or "concept"
    config, made = card.config_of(erasure), card.updates(erasure)
    method = config.train_method if config else "sum" if erasure.parts else "erasure"
    ending = "" if made is None else f"_{made}-updates"
    return f"{concept}_{method}{ending}.safetensors"


def download(erasure: Erasure) -> str:
    """Write its file for the download button."""
    return str(erasure.save(session.new_file(file_name(erasure))))
