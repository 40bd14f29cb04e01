"""The grid's place in the Compare tab: its fields, its buttons, its sheet."""

from __future__ import annotations

from functools import partial
from inspect import getdoc
from typing import Any

import gradio as gr

from esd_core import DiffusionModel
from ui.compare import grid
from ui.server import stream, waiting, zerogpu
from ui.server.stop import Job
from ui.server.stop import halt as stop
from ui.shared import pictures

HINT = """<p class="esd-cost"><small>One picture for every pair of values. Everything else is as set
above; of several prompts and seeds the first is taken. Strength 0 is the base model.</small></p>"""


def fields() -> tuple[dict[str, Any], gr.HTML, tuple[gr.Button, gr.Button]]:
    """Which knobs, which values; the place of the cost; Draw and Stop."""
    gr.HTML(HINT, apply_default_css=False)
    knobs = list(grid.KNOBS)
    chosen: dict[str, Any] = {}
    for name, values, label, start in (
        ("across", "columns", "Across", knobs[0]),
        ("down", "rows", "Down", knobs[-1]),
    ):
        chosen[name] = gr.Dropdown(knobs, value=start, label=label, filterable=False)
        chosen[values] = gr.Textbox(
            grid.KNOBS[start],
            label=f"Values {label.lower()}",
            max_length=2000,
            placeholder="The erased concept, a neighbour, something unrelated",
            info="Separated by commas; prompts by semicolons or new lines",
        )
        chosen[name].input(
            lambda knob: grid.KNOBS[knob],
            chosen[name],
            chosen[values],
            queue=False,
            trigger_mode="always_last",
            show_progress="hidden",
            api_visibility="private",
        )
    price = gr.HTML(elem_id="grid-cost", apply_default_css=False)
    with gr.Row():
        go = gr.Button("Draw grid", elem_id="grid-draw", min_width=110)
        halt = gr.Button("Stop", interactive=False, elem_id="grid-stop", min_width=110)
    return chosen, price, (go, halt)


def results() -> grid.Shown:
    """Where the sheet appears."""
    return grid.Shown(
        gr.HTML(label="status", elem_id="grid-status", apply_default_css=False),
        gr.HTML(label="sheet", elem_id="grid-sheet", apply_default_css=False),
        gr.DownloadButton("Download the grid", visible=False, elem_classes="esd-download"),
    )


def wire(
    model: DiffusionModel,
    inputs: dict[str, Any],
    price: gr.HTML,
    pressed: tuple[gr.Button, gr.Button],
    fold: gr.Accordion,
    shown: grid.Shown,
) -> None:
    """Connect the events. The API has one of them: `grid`."""
    go, halt = pressed
    quiet: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    # Not the erasure's change: gradio would hash it after every event.
    touched = [field.change for field in inputs.values() if not isinstance(field, gr.State)]
    # Of two edits in quick succession the browser has, rarely, told of the first alone.
    touched += [field.blur for field in inputs.values() if isinstance(field, gr.Textbox)]
    if not zerogpu.on():  # where a timing would cost the visitor's minutes of a GPU
        gr.on(
            [fold.expand, *touched],
            partial(grid.cost, model),
            inputs_kwargs=inputs,
            outputs=price,
            trigger_mode="always_last",
            concurrency_id=waiting.LOOK,
            **quiet,
        )
    shown.picture.change(lambda: gr.DownloadButton(visible=True), None, shown.download, queue=False, **quiet)
    job = gr.State(Job())
    begun = go.click(busy, None, [go, halt, job], queue=False, **quiet)
    drawing = begun.then(
        partial(grid.draw, model),
        inputs_kwargs={"job": job, **inputs},
        outputs=list(shown),
        api_name="grid",
        api_description=getdoc(grid.draw),
        concurrency_id=waiting.GRID,
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=shown.status,
    )
    on_page = [shown.status, go, halt]
    drawing.then(ended, job, on_page, queue=False, **quiet)
    drawing.failure(partial(ended, failed=True), job, on_page, queue=False, **quiet)
    halt.click(stop, job, halt, queue=False, **quiet)


def busy() -> tuple[gr.Button, gr.Button, Job]:
    """Draw and Stop while a grid is drawn, and its job."""
    return gr.Button(interactive=False), gr.Button(interactive=True), Job()


def ended(job: Job, failed: bool = False) -> tuple[Any, gr.Button, gr.Button]:
    """Wait for the next grid; of one that was not finished, say what is left."""
    left = "is as it was last shown" if failed else "shows what was finished"
    said = pictures.note(f"{'Not finished' if failed else 'Stopped'}. The sheet, if there is one, {left}.")
    buttons = gr.Button(interactive=True), gr.Button(interactive=False)
    return said if job.stopped or failed else stream.SKIP, *buttons
