"""A gallery of what can be erased, drawn by the model itself, once, when somebody first looks.

Thumbnails belong to the loaded weights, so they are drawn rather than shipped; all visitors share
them.
"""

from __future__ import annotations

import re
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
from esd_core.vocabulary import Concept
from ui.erase import preview
from ui.server import stream, waiting
from ui.shared import events

BATCH = 12  # pictures drawn between two looks of the page
SIDE = 96  # pixels
SEED = 1
KINDS = {"Objects": "object", "Styles": "style", "Backgrounds": "background"}

# (model, concept) -> thumbnail, as a file: gradio writes a picture again every time it is sent,
# also while a browser reads it, but copies a file once.
_drawn: dict[tuple[int, str], str] = {}
_folder = tempfile.TemporaryDirectory(prefix="esd-lab-thumbnails-")


def concepts(model: DiffusionModel, kind: str) -> tuple[Concept, ...]:
    """What the gallery of that name shows."""
    if model.vocabulary is None:
        return ()
    return model.vocabulary.of_kind(KINDS.get(kind, "object"))  # type: ignore[arg-type]


def prompt_of(model: DiffusionModel, concept: Concept) -> str:
    """What its thumbnail draws: a style or background shows on one and the same thing."""
    return to_watch(model, concept.phrase)[0].prompt


def thumbnails(model: DiffusionModel, kind: str) -> Iterator[Any]:
    """The pictures' files of a kind with their names, more each time, until all are there.

    Between two steps of drawing them it leaves the page as it is.
    """
    listed = concepts(model, kind)
    for start in range(0, len(listed), BATCH):
        yield from _draw(model, listed[start : start + BATCH])
        yield [(_drawn[id(model.unet), c.name], c.name) for c in listed[: start + BATCH]]


def _draw(model: DiffusionModel, listed: Sequence[Concept]) -> Iterator[Any]:
    """Draw those that nobody has asked for yet; others compute between two steps."""
    missing = [c for c in listed if (id(model.unet), c.name) not in _drawn]
    if not missing:
        return
    wanted = [prompt_of(model, c) for c in missing]
    made = yield from generating(
        model, wanted, lambda _: stream.SKIP, seeds=[SEED] * len(missing), **preview.PREVIEW
    )
    for concept, picture in zip(missing, made, strict=True):
        if (id(model.unet), concept.name) in _drawn:  # by another visitor meanwhile
            continue
        small = to_pil(picture)
        small.thumbnail((SIDE, SIDE))
        name = re.sub(r"[^\w]+", "-", concept.name)
        path = Path(_folder.name) / f"{id(model.unet)}-{name}.png"
        small.save(path)
        _drawn[id(model.unet), concept.name] = str(path)


def choose(model: DiffusionModel, kind: str, index: int) -> str:
    """The name of the picture that was clicked."""
    return concepts(model, kind)[index].name


def build(model: DiffusionModel, concept: gr.Dropdown) -> None:
    """A folded gallery below the list of concepts; a click on a picture picks it.

    Drawing goes on batch by batch while the fold is open, and stops when it is closed.
    """
    streams: list[Any] = []
    with gr.Accordion("Choose by picture", open=False) as fold:
        for kind in KINDS:
            with gr.Tab(kind) as tab:
                gallery = gr.Gallery(
                    columns=3,
                    height=300,
                    allow_preview=False,
                    show_label=False,
                    format="png",
                    interactive=False,
                    buttons=[],
                    elem_classes="esd-picker",
                    object_fit="contain",
                )
            opened = [tab.select] if streams else [fold.expand, tab.select]
            # Not the queue of training: who looks at pictures does not wait for another's run.
            streams += [
                on(
                    partial(thumbnails, model, kind),
                    None,
                    gallery,
                    concurrency_id=waiting.PICK,
                    concurrency_limit=len(KINDS),
                    show_progress="minimal",
                    api_visibility="private",
                )
                for on in opened
            ]
            gallery.select(_picking(model, kind), None, concept, **events.AT_ONCE)
    fold.collapse(None, cancels=streams, queue=False, api_visibility="private")


def _picking(model: DiffusionModel, kind: str) -> Any:  # noqa: ANN401
    def picked(event: gr.SelectData) -> str:  # gradio finds no event data in a partial
        return choose(model, kind, event.index)

    return picked
