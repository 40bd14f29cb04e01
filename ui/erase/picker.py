"""A gallery of what can be erased, drawn by the model itself, once, when somebody first looks.

Thumbnails belong to the loaded weights, so they are drawn rather than shipped; all visitors share them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from esd_core import DiffusionModel
from esd_core.sampling import generating
from esd_core.study.figures import to_pil
from esd_core.study.watched_prompts import to_watch
from esd_core.vocabulary import Concept, Kind
from ui.erase import pictures
from ui.server import stream, waiting
from ui.shared import blocks

BATCH = 12  # pictures drawn between two looks of the page
SIDE = 96  # pixels
SEED = 1
KINDS: dict[str, Kind] = {"Objects": "object", "Styles": "style", "Backgrounds": "background"}


class Thumbnails:
    """The pictures of a page's galleries, each drawn once for all visitors.

    They are files: gradio writes a picture again every time it is sent, also while a browser reads it,
    but copies a file once.
    """

    def __init__(self, model: DiffusionModel) -> None:
        self.model, self.files = model, dict[str, str]()  # by the concept's name
        self.folder = tempfile.TemporaryDirectory(prefix="esd-lab-thumbnails-")

    def of(self, listed: Sequence[Concept]) -> Iterator[Any]:
        """(file, name) of each concept, more of them each time, until all are there.

        Between two steps of drawing them it leaves the page as it is.
        """
        for start in range(0, len(listed), BATCH):
            yield from self._draw([c for c in listed[start : start + BATCH] if c.name not in self.files])
            yield [(self.files[c.name], c.name) for c in listed[: start + BATCH]]

    def _draw(self, missing: Sequence[Concept]) -> Iterator[Any]:
        if not missing:
            return
        # A style or background shows on one and the same thing.
        wanted = [to_watch(self.model, c.phrase)[0].prompt for c in missing]
        made = yield from generating(
            self.model, wanted, lambda _: stream.SKIP, seeds=[SEED] * len(missing), **pictures.SAMPLING
        )
        for concept, picture in zip(missing, made, strict=True):
            if concept.name not in self.files:  # else another visitor has drawn it meanwhile
                small, path = to_pil(picture), Path(self.folder.name) / f"{len(self.files)}.png"
                small.thumbnail((SIDE, SIDE))
                small.save(path)
                self.files[concept.name] = str(path)


def pick(event: gr.SelectData) -> str:
    """The name of the picture that was clicked."""
    return event.value["caption"]


def build(model: DiffusionModel, concept: gr.Dropdown) -> None:
    """A folded gallery below the list of concepts; a click on a picture picks it.

    Drawing goes on batch by batch while the fold is open, and stops when it is closed.
    """
    streams: list[Any] = []
    thumbnails = Thumbnails(model)
    with gr.Accordion("Choose by picture", open=False) as fold:
        for name, kind in KINDS.items():
            listed = model.vocabulary.of_kind(kind) if model.vocabulary else ()
            with gr.Tab(name) as tab:
                look: dict[str, Any] = dict(columns=3, height=300, object_fit="contain", format="png")
                look |= dict(interactive=False, allow_preview=False, show_label=False, buttons=[])
                gallery = gr.Gallery(elem_classes="esd-picker", **look)
            # Not the queue of training: who looks at pictures does not wait for another's run.
            opened = gr.on(
                [tab.select] if streams else [fold.expand, tab.select],
                partial(thumbnails.of, listed),
                None,
                gallery,
                concurrency_id=waiting.PICK,
                concurrency_limit=len(KINDS),
                show_progress="minimal",
                api_visibility="private",
            )
            streams.append(opened)
            gallery.select(pick, None, concept, **blocks.AT_ONCE)
    fold.collapse(None, cancels=streams, queue=False, api_visibility="private")
