"""The grid's place in the Compare tab: its fields, its buttons, its sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from esd_core import DiffusionModel
from ui.compare import grid
from ui.compare.knobs import KNOBS, start
from ui.server import stream, waiting, zerogpu
from ui.server.stop import Job, halt
from ui.shared import events, pictures

HINT = """<p class="esd-cost"><small>One picture for every pair of values. Everything else is as set
above; of several prompts and seeds the first is taken. Strength 0 is the base model.</small></p>"""


@dataclass(frozen=True)
class Controls:
    """What asks for a grid."""

    fold: gr.Accordion
    knobs: dict[str, Any]  # the fields, by the names that the API gives them
    price: gr.HTML
    go: gr.Button
    stop: gr.Button


def controls(model: DiffusionModel) -> Controls:
    """Which knobs, which values; the cost; Draw and Stop."""
    knobs: dict[str, Any] = {}
    with gr.Accordion("Grid over two knobs", open=False) as fold:
        events.html(HINT)
        for name, values, label, knob in (
            ("across", "columns", "Across", "strength"),
            ("down", "rows", "Down", "prompt"),
        ):
            knobs[name] = gr.Dropdown(list(KNOBS), value=knob, label=label, filterable=False)
            knobs[values] = gr.Textbox(
                KNOBS[knob],
                label=f"Values {label.lower()}",
                max_length=2000,
                placeholder="The erased concept, a neighbour, something unrelated",
                info="Separated by commas; prompts by semicolons or new lines",
            )
            both = [knobs[name], knobs[values]]
            knobs[name].input(partial(start, model), both, knobs[values], **events.AT_ONCE, **events.LATEST)
        price = events.html(elem_id="grid-cost")
        with gr.Row():
            go = gr.Button("Draw grid", elem_id="grid-draw", min_width=110)
            stop = gr.Button("Stop", interactive=False, elem_id="grid-stop", min_width=110)
    return Controls(fold, knobs, price, go, stop)


def results() -> list[Any]:
    """Where a `GridMoment` appears."""
    status = events.html(label="status", elem_id="grid-status")
    sheet = events.html(label="sheet", elem_id="grid-sheet")
    download = gr.DownloadButton("Download the grid", visible=False, elem_classes="esd-download")
    sheet.change(lambda: gr.DownloadButton(visible=True), None, download, **events.AT_ONCE)
    return [status, sheet, download]


def wire(
    model: DiffusionModel,
    asked: Controls,
    fields: dict[str, Any],
    shown: list[Any],
    chosen: Sequence[Dependency],
) -> None:
    """Connect the events. The API has one of them: `grid`.

    Args:
        fields: all that a grid depends on, by name.
        chosen: the events after which another erasure may be in use.
    """
    status, go, stop, job = shown[0], asked.go, asked.stop, gr.State(Job())
    # Not the erasure's change: gradio would hash it after every event.
    touched = [field.change for field in fields.values() if not isinstance(field, gr.State)]
    # Of two edits in quick succession the browser has, rarely, told of the first alone.
    touched += [field.blur for field in fields.values() if isinstance(field, gr.Textbox)]
    if not zerogpu.on():  # where a timing would cost the visitor's minutes of a GPU
        priced: dict[str, Any] = dict(
            inputs_kwargs=fields, outputs=asked.price, concurrency_id=waiting.LOOK, **events.QUIET
        )
        gr.on([asked.fold.expand, *touched], partial(grid.cost, model), **priced, **events.LATEST)
        for event in chosen:
            event.success(partial(price_again, model), asked.price, **priced)
    drawing = go.click(busy, None, [go, stop, job], **events.AT_ONCE).then(
        partial(grid.draw, model),
        inputs_kwargs={"job": job, **fields},
        outputs=shown,
        **events.public("grid", grid.draw),
        **events.long(waiting.GRID, status),
    )
    drawing.then(ended, job, [status, go, stop], **events.AT_ONCE)
    drawing.failure(partial(ended, failed=True), job, [status, go, stop], **events.AT_ONCE)
    stop.click(halt, job, stop, **events.AT_ONCE)


def price_again(model: DiffusionModel, price: str, **fields: Any) -> str:  # noqa: ANN401
    """The price with the erasure that is in use by now, if the page shows one."""
    return grid.cost(model, **fields) if price else stream.SKIP


def busy() -> tuple[gr.Button, gr.Button, Job]:
    """Draw and Stop while a grid is drawn, and its job."""
    return gr.Button(interactive=False), gr.Button(interactive=True), Job()


def ended(job: Job, failed: bool = False) -> tuple[str, gr.Button, gr.Button]:
    """Wait for the next grid; of one that was not finished, say what is left."""
    left = "is as it was last shown" if failed else "shows what was finished"
    said = pictures.note(f"{'Not finished' if failed else 'Stopped'}. The sheet, if there is one, {left}.")
    buttons = gr.Button(interactive=True), gr.Button(interactive=False)
    return said if job.stopped or failed else stream.SKIP, *buttons
