"""What belongs to one visitor: their latest erasure, their run at rest, their files.

`gr.State` keeps one value per open page; the frozen model is shared by all and never changed.
"""

from __future__ import annotations

import logging
import re
import tempfile
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from esd_core import EraseConfig, Erasure, card

LIFETIME = 3600  # seconds an erasure, and its file, are kept after their last change
log = logging.getLogger("esd_lab")


def erasure_state() -> gr.State:
    """A visitor's own erasure; None until something was erased."""
    return gr.State(None, time_to_live=LIFETIME, delete_callback=_forgotten)


def _forgotten(erasure: Erasure | None) -> None:
    if erasure is not None:
        log.info("dropped a visitor's erasure of %s", concepts(erasure))


def paused_state() -> gr.State:
    """A visitor's own run at rest; None until one can be continued."""
    return gr.State(None, time_to_live=LIFETIME)


def named(config: EraseConfig) -> str:
    """What a run erases, as one text."""
    return ", ".join(target.concept for target in config.concepts)


def concepts(erasure: Erasure) -> str:
    """The prompts it erases, as one text; "unknown" if its file does not tell."""
    return ", ".join(card.concepts(erasure)) or "unknown"


def size(erasure: Erasure) -> int:
    """How many numbers it changes."""
    return sum(t.numel() for t in erasure.tensors.values())


def file_name(erasure: Erasure) -> str:
    """Says what the file does: `a-cat_esd-x_40-updates.safetensors`."""
    concept = re.sub(r"[^\w]+", "-", concepts(erasure)).strip("-")[:40] or "concept"
    config, made = card.config_of(erasure), card.updates(erasure)
    method = config.train_method if config else "sum" if card.parts(erasure) else "erasure"
    ending = "" if made is None else f"_{made}-updates"
    return f"{concept}_{method}{ending}.safetensors"


def new_file(name: str) -> Path:
    """A path in a fresh folder of Gradio's cache, which Gradio empties of old files."""
    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache)) / name


def download(erasure: Erasure) -> str:
    """Write its file for the download button."""
    return str(erasure.save(new_file(file_name(erasure))))
