"""A grid over any two knobs: what it asks for, what it costs, and drawing it picture by picture."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import product
from typing import Any, NamedTuple

import torch

from esd_core import DiffusionModel, Erasure, card
from esd_core.exchange import png_parameters
from esd_core.sampling import Step, sample
from esd_core.study import figures
from esd_core.study.watched_prompts import to_watch
from ui.compare.knobs import KNOBS, Value, label, values, written
from ui.server import session, stream, zerogpu
from ui.server.stop import Job
from ui.shared import erased_prompts, pictures, prompts, timing

MOST_PICTURES = 36  # so that one visitor cannot keep the others waiting
MOST_DEFAULTS = 6  # prompts that an empty box stands for
REFRESH = 1.0  # seconds between updates of the sheet on the page


class GridMoment(NamedTuple):
    """One moment of a grid on the page; SKIP leaves a part as it is."""

    status: str = stream.SKIP
    picture: str = stream.SKIP
    download: str = stream.SKIP


@dataclass(frozen=True)
class Grid:
    """Two knobs with their values; all others are fixed."""

    across: str
    columns: tuple[Value, ...]
    down: str
    rows: tuple[Value, ...]
    fixed: dict[str, Value]  # a value for every knob

    def cell(self, i: int, j: int) -> dict[str, Any]:
        """All knobs of the picture in row i, column j."""
        return {**self.fixed, self.down: self.rows[i], self.across: self.columns[j]}

    @property
    def places(self) -> list[tuple[int, int]]:
        """(row, column) of every picture, in the order in which they are drawn."""
        return list(product(range(len(self.rows)), range(len(self.columns))))

    @property
    def size(self) -> int:
        """How many pictures."""
        return len(self.places)

    @property
    def title(self) -> str:
        """The fixed knobs, as one line."""
        return ", ".join(label(n, self.fixed[n]) for n in KNOBS if n not in (self.across, self.down))

    @property
    def axes(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both knobs with their values as `knobs.values` reads them, across first."""
        return (self.across, written(self.columns)), (self.down, written(self.rows))


class Sheet:
    """The pictures of a grid that are drawn so far, for the page and as a file."""

    def __init__(self, model: DiffusionModel, erasure: Erasure, grid: Grid) -> None:
        self.grid, self.path = grid, session.new_file("grid.png")
        shape = len(grid.rows), len(grid.columns), 3, model.image_size, model.image_size
        self.drawn = torch.full(shape, 0.94)
        self.erased = ", ".join(card.concepts(erasure)) or "not recorded"
        one: dict[str, Any] = grid.fixed
        self.parameters = png_parameters.of(
            model,
            erasure,
            (one["prompt"],),
            (one["seed"],),
            strength=one["strength"],
            guidance_scale=one["guidance scale"],
            num_inference_steps=one["steps"],
            scheduler=one["scheduler"],
            axes=grid.axes,
        )

    def shown(self) -> tuple[str, str]:
        """The labelled sheet as HTML, and the path of its file, which tells its settings."""
        grid = self.grid
        heads = [label(grid.down, v) for v in grid.rows], [label(grid.across, v) for v in grid.columns]
        drawing = figures.sheet(self.drawn, *heads, title=grid.title)
        png_parameters.save(png_parameters.stamp(drawing, self.parameters), self.path)
        (across, columns), (down, rows) = grid.axes
        alt = (
            f"Grid of {grid.size} pictures, erased: {self.erased}; down: {down} {rows}; across: "
            f"{across} {columns}; {grid.title}"
        )
        return pictures.shown_file(self.path, alt), str(self.path)


def plan(
    model: DiffusionModel,
    erasure: Erasure | None,
    across: str,
    columns: str,
    down: str,
    rows: str,
    **fixed: Value,
) -> Grid:
    """The grid that the fields describe.

    Args:
        fixed: a value for every knob, spaces as underscores; of prompts and seeds the first is
            taken.

    Raises:
        ValueError: the knobs are the same, a value cannot be, or there are too many pictures.
    """
    if across == down:
        raise ValueError(f"both knobs are {across!r}; choose two different ones")
    empty = _defaults(model, erasure)
    unread = empty or [""] * ("prompt" in (across, down))  # what an axis takes over is not drawn
    one = {knob: values(model, knob, str(fixed[knob.replace(" ", "_")]), unread)[0] for knob in KNOBS}
    made = Grid(across, values(model, across, columns, empty), down, values(model, down, rows, empty), one)
    if made.size > MOST_PICTURES:
        raise ValueError(
            f"{len(made.rows)} rows of {len(made.columns)} make {made.size} pictures; "
            f"ask for {MOST_PICTURES} or fewer"
        )
    return made


def _defaults(model: DiffusionModel, erasure: Erasure | None) -> list[str]:
    """The prompts that an empty box stands for; [] if the erasure does not say what it erases."""
    if erasure is None:
        first = prompts.phrase(model, prompts.first_choice(model) or "Van Gogh")
        return [w.prompt for w in to_watch(model, first)]
    return erased_prompts.defaults(model, erasure, MOST_DEFAULTS) if card.concepts(erasure) else []


def cost(model: DiffusionModel, erasure: Erasure | None, **fields: Any) -> str:  # noqa: ANN401
    """How many pictures, and how long they will take; else what is wrong."""
    try:
        made = plan(model, erasure, **fields)
    except ValueError as refused:
        return f'<p class="esd-cost">{escape(str(refused))}</p>'
    call, cells = timing.evaluation(model), [made.cell(*place) for place in made.places]
    seconds = sum(cell["steps"] * call(1 if cell["guidance scale"] in (0, 1) else 2) for cell in cells)
    number = f"{len(cells)} picture{'s' if len(cells) != 1 else ''}"
    return f'<p class="esd-cost">{number}, about {timing.duration(seconds)}</p>'


def draw(
    model: DiffusionModel,
    erasure: Erasure | None,
    job: Job | None = None,
    **fields: Any,  # noqa: ANN401
) -> Iterator[GridMoment]:
    """Draw the grid, row by row; what is drawn when it is stopped can be downloaded too."""
    job = job or Job()
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; run Erase first")
        made = plan(model, erasure, **fields)
        sheet, total, shown_at = Sheet(model, erasure, made), made.size, time.perf_counter()
        strengths = {made.cell(*place)["strength"] for place in made.places}
        unets = {strength: erasure.apply(model, strength) for strength in strengths}
        for n, place in enumerate(made.places):
            for at in job.until_stop(_steps(model, made.cell(*place), unets)):
                text = f"Picture {n + 1} of {total}, step {at.step + 1}"
                yield GridMoment(pictures.note(text, done=n / total))
                latents = at.latents
            if job.stopped:
                if n:
                    yield GridMoment(stream.SKIP, *sheet.shown())
                return
            sheet.drawn[place] = model.decode(latents)[0]
            ended = n + 1 == total
            # On ZeroGPU Stop does not reach this side of the stream, and what is not shown is lost.
            if ended or zerogpu.on() or time.perf_counter() - shown_at >= REFRESH:
                text = f"{n + 1} of {total} pictures; {escape(made.title)}."
                done, tone = (None, "good") if ended else ((n + 1) / total, "plain")
                yield GridMoment(pictures.note(text, done=done, tone=tone), *sheet.shown())
                shown_at = time.perf_counter()


def _steps(model: DiffusionModel, cell: dict[str, Any], unets: dict[float, Any]) -> Iterator[Step]:
    """The denoising steps of one picture."""
    return sample(
        model,
        cell["prompt"],
        seeds=[cell["seed"]],
        unet=unets[cell["strength"]],
        guidance_scale=cell["guidance scale"],
        num_inference_steps=cell["steps"],
        scheduler=cell["scheduler"],
        keep_pair=False,
    )
