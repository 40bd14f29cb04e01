"""The grid's place in the Compare tab: its fields, its buttons, its sheet."""

from __future__ import annotations

from functools import partial
from inspect import getdoc
from typing import Any

import gradio as gr

from esd_core import DiffusionModel
from ui import fair, grid, pictures, zero

HINT = """<p class="esd-cost"><small>One picture for every pair of values. Everything else is as set
above; of several prompts and seeds the first is taken. Strength 0 is the base model.</small></p>"""


def fields() -> tuple[dict[str, Any], gr.HTML, tuple[gr.Button, gr.Button]]:
    """Which knobs, which values; the place of the cost; Draw and Stop."""
    gr.HTML(HINT, apply_default_css=False)
    knobs = list(grid.KNOBS)
    chosen: dict[str, Any] = {}
    for name, values, label, start in (
        ("across", "columns", "Across", knobs[0]), ("down", "rows", "Down", knobs[-1]),
    ):  # fmt: skip
        chosen[name] = gr.Dropdown(knobs, value=start, label=label, filterable=False)
        chosen[values] = gr.Textbox(
            grid.KNOBS[start], label=f"Values {label.lower()}", max_length=2000,
            placeholder="The erased concept, a neighbour, something unrelated",
            info="Separated by commas; prompts by semicolons or new lines",
        )  # fmt: skip
        chosen[name].input(
            lambda knob: grid.KNOBS[knob], chosen[name], chosen[values], queue=False,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip
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
    model: DiffusionModel, inputs: dict[str, Any], price: gr.HTML,
    pressed: tuple[gr.Button, gr.Button], fold: gr.Accordion, shown: grid.Shown,
) -> None:  # fmt: skip
    """Connect the events. The API has one of them: `grid`."""
    go, halt = pressed
    quiet: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    # Not the erasure's change: gradio would hash it after every event.
    touched = [field.change for field in inputs.values() if not isinstance(field, gr.State)]
    # Of two edits in quick succession the browser has, rarely, told of the first alone.
    touched += [field.blur for field in inputs.values() if isinstance(field, gr.Textbox)]
    if not zero.on():  # where a timing would cost the visitor's minutes of a GPU
        gr.on(
            [fold.expand, *touched], partial(grid.cost, model), inputs_kwargs=inputs, outputs=price,
            trigger_mode="always_last", concurrency_id=fair.LOOK, **quiet,
        )  # fmt: skip
    shown.picture.change(
        lambda: gr.DownloadButton(visible=True), None, shown.download, queue=False, **quiet
    )
    begun = go.click(lambda: gr.Button(interactive=True), None, halt, queue=False, **quiet)
    drawing = begun.then(
        partial(grid.draw, model), inputs_kwargs=inputs, outputs=list(shown), api_name="grid",
        api_description=getdoc(grid.draw),
        concurrency_id=fair.MODEL, concurrency_limit=1, show_progress="minimal",
        show_progress_on=shown.status,
    )  # fmt: skip
    drawing.then(lambda: gr.Button(interactive=False), None, halt, queue=False, **quiet)
    halt.click(None, cancels=[drawing], queue=False, **quiet).then(
        stopped, None, [shown.status, halt], queue=False, **quiet
    )


def stopped() -> tuple[str, gr.Button]:
    """What Stop says, and its end. The sheet is brought up to date every second, not by a picture.

    (Whether there is one we do not ask: while a stream skips a button's file, the page knows none.)
    """
    said = (
        "Stopped. If there was a sheet, it stays as it was last shown, and can be downloaded; what "
        "was drawn since is lost."
    )
    return pictures.note(said), gr.Button(interactive=False)
