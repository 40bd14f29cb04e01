"""A visitor's erasures: those they made, opened or added up. The ready-made ones are everybody's.

`gr.State` keeps one shelf per open page, beside the erasure that the other tabs use.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr

from esd_core import DiffusionModel, Erasure, card
from esd_core.files import write_text
from esd_core.formats import load_erasure
from ui.server import session
from ui.shared import run_stages

MOST, MEMORY = 8, 192 * 2**20  # erasures, and bytes of them, that one visitor may keep
READY_MADE = Path(__file__).resolve().parents[2] / "assets" / "erasures"
Shelf = tuple["Kept", ...]


@dataclass(frozen=True)
class Kept:
    """One erasure on the shelf."""

    erasure: Erasure
    origin: str
    folder: Path  # in Gradio's cache, for its files
    name: str = ""  # of one that is everybody's

    @property
    def key(self) -> str:
        """Tells it from all others on the page."""
        return self.name or self.folder.name

    @property
    def label(self) -> str:
        """What a list calls it."""
        config, made = card.config_of(self.erasure), card.updates(self.erasure)
        if self.name:
            return f"{session.concepts(self.erasure)} ({self.origin})"
        facts = [config.train_method] if config else []
        facts += [] if made is None else [f"{made} updates"]
        return f"{session.concepts(self.erasure)} ({', '.join([*facts, self.origin])})"

    def files(self) -> list[str]:
        """The erasure and its card as Markdown and JSON, written unless they are there."""
        erasure = self.folder / session.file_name(self.erasure)
        texts = {".md": card.markdown(self.erasure), ".json": card.as_json(self.erasure)}
        if not erasure.exists():
            self.erasure.save(erasure)
        for suffix, text in texts.items():
            write_text(erasure.with_suffix(suffix), text)
        return [str(erasure), *(str(erasure.with_suffix(suffix)) for suffix in texts)]


def state() -> gr.State:
    """A visitor's own shelf, empty at first."""
    return gr.State((), time_to_live=session.LIFETIME, delete_callback=_forget)


def _forget(shelf: Shelf) -> None:
    for kept in shelf or ():
        shutil.rmtree(kept.folder, ignore_errors=True)


def keep(shelf: Shelf, erasure: Erasure | None, origin: str = "this session", besides: Shelf = ()) -> Shelf:
    """The shelf with one erasure more; the oldest make room for it.

    Args:
        besides: a shelf, everybody's, whose erasures need no place on this one.
    """
    if erasure is None or key_of((*besides, *shelf), erasure):
        return shelf
    full = (*shelf, Kept(erasure, origin, session.new_file("x").parent))
    dropped = 0
    while len(full) - dropped > 1 and (
        len(full) - dropped > MOST or sum(_size(kept.erasure) for kept in full[dropped:]) > MEMORY
    ):
        dropped += 1
    _forget(full[:dropped])
    return full[dropped:]


def _size(erasure: Erasure) -> int:
    """Bytes of it and of the stages that led to it."""
    return sum(run_stages.size(stage) for stage in run_stages.stages(erasure) if stage)


def find(listed: Sequence[Kept], key: str | None) -> Kept:
    """The one of that key.

    Raises:
        ValueError: it is not there, or not any more.
    """
    for kept in listed:
        if kept.key == key:
            return kept
    raise ValueError("choose an erasure of the list; the oldest are dropped to make room")


def key_of(listed: Sequence[Kept], erasure: Erasure | None) -> str | None:
    """The key of an erasure that is listed, else None."""
    return next((kept.key for kept in listed if kept.erasure is erasure), None)


def choices(listed: Sequence[Kept]) -> list[tuple[str, str]]:
    """(label, key), for a list to choose from; equal labels are numbered."""
    labels = [kept.label for kept in listed]
    seen: dict[str, int] = {}
    numbered = []
    for label in labels:
        seen[label] = seen.get(label, 0) + 1
        again = labels.count(label) > 1
        numbered.append(f"{label}, no. {seen[label]}" if again else label)
    return [(label, kept.key) for label, kept in zip(numbered, listed, strict=True)]


def ready_made(model: DiffusionModel, folder: Path = READY_MADE) -> tuple[Shelf, list[str]]:
    """The erasures that ship with the app, and why some were left out (made for other weights)."""
    shelf, refusals = [], []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            erasure = load_erasure(path, model)
        except ValueError as refused:
            refusals.append(f"{path.name} is left out: {refused}")
        else:
            folder = session.new_file("x").parent
            shelf.append(Kept(erasure, "ready-made", folder, path.stem))
    return tuple(shelf), refusals
