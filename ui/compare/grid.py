"""A grid over any two knobs: its fields, what it costs, and drawing it picture by picture."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr
import torch
from gradio.events import Dependency

from esd_core import DiffusionModel, Erasure, card
from esd_core.exchange import png_parameters
from esd_core.sampling import sample
from esd_core.study import figures
from ui.compare.knobs import KNOBS, Grid, label, plan, start
from ui.server import memory, stream, waiting, zerogpu
from ui.server.stream import Job, halt
from ui.shared import blocks, markup, timing
from ui.shared.blocks import Parts

REFRESH = 1.0  # seconds between updates of the sheet on the page
HINT = """<p class="esd-cost"><small>One picture for every pair of values. Everything else is as set
above; of several prompts and seeds the first is taken. Strength 0 is the base model.</small></p>"""


class GridMoment(NamedTuple):
    """One moment of a grid on the page; SKIP leaves a part as it is."""

    status: str = stream.SKIP
    picture: str = stream.SKIP
    download: str = stream.SKIP


def cost(model: DiffusionModel, erasure: Erasure | None, **fields: Any) -> str:
    """How many pictures, and how long they will take; else what is wrong."""
    try:
        cells = plan(model, erasure, **fields).cells.values()
    except ValueError as refused:
        return f'<p class="esd-cost">{escape(str(refused))}</p>'
    call = timing.evaluation(model)
    seconds = sum(cell["steps"] * call(1 if cell["guidance scale"] in (0, 1) else 2) for cell in cells)
    number = f"{len(cells)} picture{'s' if len(cells) != 1 else ''}"
    return f'<p class="esd-cost">{number}, about {timing.duration(seconds)}</p>'


def draw(
    model: DiffusionModel, erasure: Erasure | None, job: Job | None = None, **fields: Any
) -> Iterator[GridMoment]:
    """Draw the grid, row by row; what is drawn when it is stopped can be downloaded too."""
    job = job or Job()
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; run Erase first")
        grid = plan(model, erasure, **fields)
        cells, sheet, shown_at = grid.cells, Sheet(model, erasure, grid), time.perf_counter()
        strengths = {cell["strength"] for cell in cells.values()}
        unets = {strength: erasure.apply(model, strength) for strength in strengths}
        for n, (place, cell) in enumerate(cells.items(), 1):
            how = {"unet": unets[cell["strength"]], "keep_pair": False, **_sampling(cell)}
            for at in job.until_stop(sample(model, cell["prompt"], seeds=[cell["seed"]], **how)):
                text = f"Picture {n} of {len(cells)}, step {at.step + 1}"
                yield GridMoment(markup.note(text, done=(n - 1) / len(cells)))
                latents = at.latents
            if job.stopped:
                if n > 1:
                    yield GridMoment(stream.SKIP, *sheet.shown())
                return
            sheet.drawn[place] = model.decode(latents)[0]
            ended = n == len(cells)
            # On ZeroGPU Stop does not reach this side of the stream, and what is not shown is lost.
            if ended or zerogpu.on() or time.perf_counter() - shown_at >= REFRESH:
                text = f"{n} of {len(cells)} pictures; {escape(grid.title)}."
                done, tone = (None, "good") if ended else (n / len(cells), "plain")
                yield GridMoment(markup.note(text, done=done, tone=tone), *sheet.shown())
                shown_at = time.perf_counter()


def _sampling(knobs: dict[str, Any]) -> dict[str, Any]:
    names = {"guidance scale": "guidance_scale", "steps": "num_inference_steps", "scheduler": "scheduler"}
    return {name: knobs[knob] for knob, name in names.items()}


class Sheet:
    """The pictures of a grid that are drawn so far, for the page and as a file."""

    def __init__(self, model: DiffusionModel, erasure: Erasure, grid: Grid) -> None:
        self.grid, self.path = grid, memory.new_file("grid.png")
        shape = len(grid.rows), len(grid.columns), 3, model.image_size, model.image_size
        self.drawn = torch.full(shape, 0.94)
        self.erased = ", ".join(card.concepts(erasure)) or "not recorded"
        one: dict[str, Any] = grid.fixed
        drawn = dict(strength=one["strength"], axes=grid.axes, **_sampling(one))
        self.parameters = png_parameters.of(model, erasure, (one["prompt"],), (one["seed"],), **drawn)

    def shown(self) -> tuple[str, str]:
        """The labelled sheet as HTML, and the path of its file, which tells its settings."""
        grid = self.grid
        heads = [label(grid.down, v) for v in grid.rows], [label(grid.across, v) for v in grid.columns]
        drawing = figures.sheet(self.drawn, *heads, title=grid.title)
        png_parameters.save(png_parameters.stamp(drawing, self.parameters), self.path)
        (across, columns), (down, rows) = grid.axes
        alt = (
            f"Grid of {len(grid.cells)} pictures, erased: {self.erased}; down: {down} {rows}; across: "
            f"{across} {columns}; {grid.title}"
        )
        source = f"data:image/png;base64,{base64.b64encode(self.path.read_bytes()).decode()}"
        return f'<img class="esd-sheet" src="{source}" alt="{escape(alt)}">', str(self.path)


def controls(model: DiffusionModel) -> tuple[Parts, Parts]:
    """Which knobs, which values, by the names that the API gives the fields; their fold, the cost, Draw
    and Stop."""
    knobs: Parts = {}
    with gr.Accordion("Grid over two knobs", open=False) as fold:
        blocks.html(HINT)
        for name, listed, label, knob in (
            ("across", "columns", "Across", "strength"),
            ("down", "rows", "Down", "prompt"),
        ):
            knobs[name] = gr.Dropdown(list(KNOBS), value=knob, label=label, filterable=False)
            knobs[listed] = gr.Textbox(
                KNOBS[knob],
                label=f"Values {label.lower()}",
                max_length=2000,
                placeholder="The erased concept, a neighbour, something unrelated",
                info="Separated by commas; prompts by semicolons or new lines",
            )
            both = [knobs[name], knobs[listed]]
            knobs[name].input(partial(start, model), both, knobs[listed], **blocks.AT_ONCE, **blocks.LATEST)
        price = blocks.html(elem_id="grid-cost")
        with gr.Row():
            go = gr.Button("Draw grid", elem_id="grid-draw", min_width=110)
            stop = gr.Button("Stop", interactive=False, elem_id="grid-stop", min_width=110)
    return knobs, dict(fold=fold, price=price, go=go, stop=stop)


def results() -> list[Any]:
    """Where a `GridMoment` appears."""
    status = blocks.html(label="status", elem_id="grid-status")
    sheet = blocks.html(label="sheet", elem_id="grid-sheet")
    download = gr.DownloadButton("Download the grid", visible=False, elem_classes="esd-download")
    sheet.change(lambda: gr.DownloadButton(visible=True), None, download, **blocks.AT_ONCE)
    return [status, sheet, download]


def wire(
    model: DiffusionModel, page: Parts, fields: Parts, shown: list[Any], chosen: Sequence[Dependency]
) -> None:
    """Connect the events. The API has one of them: `grid`.

    Args:
        page: the fold, the cost and the buttons of `controls`.
        fields: all that a grid depends on, by name.
        chosen: the events after which another erasure may be in use.
    """
    go, stop, job = page["go"], page["stop"], gr.State(Job())
    # Not the erasure's change: gradio would hash it after every event.
    touched = [field.change for field in fields.values() if not isinstance(field, gr.State)]
    # Of two edits in quick succession the browser has, rarely, told of the first alone.
    touched += [field.blur for field in fields.values() if isinstance(field, gr.Textbox)]
    if not zerogpu.on():  # where a timing would cost the visitor's minutes of a GPU
        priced: dict[str, Any] = dict(fn=partial(cost, model), inputs_kwargs=fields, outputs=page["price"])
        priced |= dict(concurrency_id=waiting.LOOK, **blocks.QUIET)
        gr.on([page["fold"].expand, *touched], **priced, **blocks.LATEST)
        for event in chosen:
            event.success(**priced)
    drawing = go.click(busy, None, [go, stop, job], **blocks.AT_ONCE).then(
        partial(draw, model),
        inputs_kwargs={"job": job, **fields},
        outputs=shown,
        **blocks.public("grid", draw),
        **blocks.long(waiting.GRID, shown[0]),
    )
    for over, failed in ((drawing.then, False), (drawing.failure, True)):
        over(partial(ended, failed=failed), job, [shown[0], go, stop], **blocks.AT_ONCE)
    stop.click(halt, job, stop, **blocks.AT_ONCE)


def busy() -> tuple[gr.Button, gr.Button, Job]:
    """Draw and Stop while a grid is drawn, and its job."""
    return gr.Button(interactive=False), gr.Button(interactive=True), Job()


def ended(job: Job, failed: bool = False) -> tuple[str, gr.Button, gr.Button]:
    """Wait for the next grid; of one that was not finished, say what is left."""
    left = "is as it was last shown" if failed else "shows what was finished"
    said = markup.note(f"{'Not finished' if failed else 'Stopped'}. The sheet, if there is one, {left}.")
    buttons = gr.Button(interactive=True), gr.Button(interactive=False)
    return said if job.stopped or failed else stream.SKIP, *buttons
