"""A visitor's erasures: those they made, opened or added up. The ready-made ones are everybody's."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from esd_core import DiffusionModel, Erasure, card
from esd_core.exchange.formats import load_erasure
from esd_core.support.files import write_text
from ui.server import memory, stream
from ui.shared import erasure_stages, erasure_text

LONGEST, MEMORY = 8, 192 * 2**20  # erasures, and bytes of them, that one visitor may keep
READY_MADE = Path(__file__).resolve().parents[2] / "assets" / "erasures"
ErasureList = tuple["ListedErasure", ...]


@dataclass(frozen=True)
class ListedErasure:
    """One erasure of a list."""

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
        """What the page calls it."""
        how = "" if self.name else erasure_text.how(self.erasure)
        return f"{erasure_text.concepts(self.erasure)} ({', '.join(filter(None, [how, self.origin]))})"

    def files(self) -> list[str]:
        """The erasure and its card as Markdown and JSON, written unless they are there."""
        erasure = self.folder / erasure_text.file_name(self.erasure)
        texts = {".md": card.markdown(self.erasure), ".json": card.as_json(self.erasure)}
        if not erasure.exists():
            self.erasure.save(erasure)
        for suffix, text in texts.items():
            write_text(erasure.with_suffix(suffix), text)
        return [str(erasure), *(str(erasure.with_suffix(suffix)) for suffix in texts)]


def _remove_files(owned: ErasureList) -> None:
    for kept in owned or ():
        shutil.rmtree(kept.folder, ignore_errors=True)


class Erasures(NamedTuple):
    """The erasures of a page."""

    in_use: gr.State  # the visitor's own or chosen one; None until there is one
    owned: gr.State  # the visitor's list
    ready: ErasureList  # everybody's

    @classmethod
    def beside(cls, ready: ErasureList) -> Erasures:
        """A visitor's own, none at first; a list that is dropped takes its files along."""
        life: dict[str, Any] = dict(time_to_live=memory.LIFETIME)
        return cls(gr.State(None, **life), gr.State((), delete_callback=_remove_files, **life), ready)


def keep(
    owned: ErasureList, erasure: Erasure | None, origin: str = "this session", besides: ErasureList = ()
) -> ErasureList:
    """The list with one erasure more, unless it is there or `besides`; the oldest make room for it."""
    if erasure is None or key_of((*besides, *owned), erasure):
        return owned
    full = (*owned, ListedErasure(erasure, origin, memory.new_file("x").parent))
    # With the stages that led to each.
    first, sizes = 0, [memory.tensor_bytes(erasure_stages.stages(kept.erasure)) for kept in full]
    while first < len(owned) and (len(full) - first > LONGEST or sum(sizes[first:]) > MEMORY):
        first += 1
    _remove_files(full[:first])
    return full[first:]


def find(listed: Sequence[ListedErasure], key: str | None) -> ListedErasure:
    """The one of that key."""
    for kept in listed:
        if kept.key == key:
            return kept
    raise ValueError("choose an erasure of the list; the oldest are dropped to make room")


def choose(ready: ErasureList, owned: ErasureList, key: str) -> Erasure:
    """Take an erasure for Compare, Scores and Attention.

    key is the name of a ready-made one, such as "cat", or what the Library calls one of your own.
    """
    with stream.refusals():
        return find([*ready, *owned], key).erasure


def key_of(listed: Sequence[ListedErasure], erasure: Erasure | None) -> str | None:
    """The key of an erasure that is listed, else None."""
    return next((kept.key for kept in listed if kept.erasure is erasure), None)


def choices(listed: Sequence[ListedErasure]) -> list[tuple[str, str]]:
    """(label, key), for a list to choose from; labels that come again are numbered."""
    seen, numbered = Counter[str](), []
    for kept in listed:
        seen[label := kept.label] += 1
        numbered.append((f"{label}, no. {seen[label]}" if seen[label] > 1 else label, kept.key))
    return numbered


def offered(listed: Sequence[ListedErasure], erasure: Erasure | None) -> dict[str, Any]:
    """The choices and the value of a component that shows which erasure is in use."""
    return dict(choices=choices(listed), value=key_of(listed, erasure))


def ready_made(model: DiffusionModel, folder: Path = READY_MADE) -> tuple[ErasureList, list[str]]:
    """The erasures that ship with the app, and why some were left out (made for other weights)."""
    listed, refusals = [], []
    for path in sorted(folder.glob("*.safetensors")):
        try:
            erasure = load_erasure(path, model)
        except ValueError as refused:
            refusals.append(f"{path.name} is left out: {refused}")
        else:
            listed.append(ListedErasure(erasure, "ready-made", memory.new_file("x").parent, path.stem))
    return tuple(listed), refusals
