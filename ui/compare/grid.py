"""A grid over any two knobs: what it asks for, what it costs, and drawing it picture by picture."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esd_core import DiffusionModel, Erasure, card
from esd_core.erasure import STRENGTHS
from esd_core.sampling import SCHEDULERS, Step, sample
from esd_core.study import figures, png_parameters
from esd_core.study.watched_prompts import to_watch
from ui.server import session, stream, zerogpu
from ui.server.stop import Job
from ui.shared import erased_prompts, pictures, prompts, timing
from ui.shared.timing import duration

MOST = 36  # pictures, so that one visitor cannot keep the others waiting
MOST_DEFAULTS = 6  # prompts that an empty box stands for
MOST_STEPS = 100
REFRESH = 1.0  # seconds between updates of the sheet on the page

# What a knob starts with when it is chosen.
KNOBS = {
    "strength": "-1, 0, 0.5, 1, 2",
    "guidance scale": "1, 2, 4, 8",
    "steps": "5, 10, 20, 40",
    "scheduler": ", ".join(SCHEDULERS),
    "seed": "1, 2, 3",
    "prompt": "",
}
RANGES = {
    "strength": STRENGTHS,
    "guidance scale": (-20, 50),
    "steps": (1, MOST_STEPS),
    "seed": (0, 2**31 - 1),
}
WHOLE = ("steps", "seed")
Value = float | int | str


class Shown(NamedTuple):
    """One moment of a grid on the page; SKIP leaves a part as it is."""

    status: Any = stream.SKIP
    picture: Any = stream.SKIP
    download: Any = stream.SKIP


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

    def of(self, knob: str) -> tuple[Value, ...]:
        """The values a knob takes in this grid."""
        return {self.across: self.columns, self.down: self.rows}.get(knob, (self.fixed[knob],))

    @property
    def size(self) -> int:
        """How many pictures."""
        return len(self.rows) * len(self.columns)

    @property
    def title(self) -> str:
        """The fixed knobs, as one line."""
        rest = [n for n in KNOBS if n not in (self.across, self.down)]
        return ", ".join(label(n, self.fixed[n]) for n in rest)

    @property
    def axes(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both knobs with their values as `values` reads them, across first."""
        return (self.across, written(self.columns)), (self.down, written(self.rows))


def written(values: tuple[Value, ...]) -> str:
    """Values as a visitor would type them."""
    texts = [(v or '""') if isinstance(v, str) else f"{v:.10g}" for v in values]
    return "; ".join(texts)


def label(knob: str, value: Value) -> str:
    """A knob's setting, for a reader."""
    if knob == "prompt":
        return str(value) or "(empty prompt)"
    return f"{knob} {value:g}" if isinstance(value, float) else f"{knob} {value}"


def values(model: DiffusionModel, knob: str, text: str, empty: list[str]) -> tuple[Value, ...]:
    """A knob's values from text: separated by commas, prompts by new lines or semicolons.

    Args:
        empty: the prompts that an empty box stands for.

    Raises:
        ValueError: the knob or a value is unknown or out of range, or nothing is given.
    """
    if knob not in KNOBS:
        raise ValueError(f"unknown knob {knob!r}; choose one of: {', '.join(KNOBS)}")
    pattern = r"[\n;]" if knob == "prompt" else r"[\s,;]+"
    parts = [" ".join(p.split()) for p in re.split(pattern, text or "") if p.strip()]
    if knob == "prompt":
        found = ["" if part == '""' else part for part in parts] or empty
        if not found:
            raise ValueError(erased_prompts.NOT_NAMED)
        for prompt in found:
            prompts.refuse_unknown_words(model, prompt)
        return tuple(found)
    if not parts:
        raise ValueError(f"{knob}: give at least one value, such as {KNOBS[knob]}")
    return tuple(_value(knob, part) for part in parts)


def _value(knob: str, part: str) -> Value:
    if knob == "scheduler":
        if part not in SCHEDULERS:
            raise ValueError(f"unknown scheduler {part!r}; choose one of: {', '.join(SCHEDULERS)}")
        return part
    (low, high), kind = RANGES[knob], "whole number" if knob in WHOLE else "number"
    try:
        number = int(part) if knob in WHOLE else float(part)
    except ValueError:
        number = math.nan
    if not low <= number <= high:
        raise ValueError(f"{knob}: {part!r} cannot be; use a {kind} from {low:g} to {high:.10g}")
    return number


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
    shown = _defaults(model, erasure)
    if across == down:
        raise ValueError(f"both knobs are {across!r}; choose two different ones")
    one = {
        knob: values(
            model,
            knob,
            str(fixed[knob.replace(" ", "_")]),
            shown or [""] * (knob in (across, down)),  # what an axis takes over is not drawn
        )[0]
        for knob in KNOBS
    }
    made = Grid(across, values(model, across, columns, shown), down, values(model, down, rows, shown), one)
    if made.size > MOST:
        raise ValueError(
            f"{len(made.rows)} rows of {len(made.columns)} make {made.size} pictures; ask for {MOST} or fewer"
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
    call, seconds = timing.evaluation(model), 0.0
    for i in range(len(made.rows)):
        for j in range(len(made.columns)):
            cell = made.cell(i, j)
            seconds += cell["steps"] * call(1 if cell["guidance scale"] in (0, 1) else 2)
    number = f"{made.size} picture{'s' if made.size != 1 else ''}"
    return f'<p class="esd-cost">{number}, about {duration(seconds)}</p>'


def draw(
    model: DiffusionModel,
    erasure: Erasure | None,
    job: Job | None = None,
    **fields: Any,  # noqa: ANN401
) -> Iterator[Shown]:
    """Draw the grid, row by row; what is drawn when it is stopped can be downloaded too."""
    job = job or Job()
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; run Erase first")
        made = plan(model, erasure, **fields)
        side = model.image_size
        drawn = torch.full((len(made.rows), len(made.columns), 3, side, side), 0.94)
        unets = {s: erasure.apply(model, float(s)) for s in made.of("strength")}
        about, erased = parameters(model, erasure, made), ", ".join(card.concepts(erasure))
        refreshed, path = time.perf_counter(), session.new_file("grid.png")
        for n in range(made.size):
            i, j = divmod(n, len(made.columns))
            for at in job.until_stop(_steps(model, made.cell(i, j), unets)):
                text = f"Picture {n + 1} of {made.size}, step {at.step + 1}"
                yield Shown(pictures.note(text, done=n / made.size))
                latents = at.latents
            if job.stopped:
                if n:
                    yield Shown(stream.SKIP, *_sheet(made, drawn, about, path, erased))
                return
            drawn[i, j] = model.decode(latents)[0]
            last = n + 1 == made.size
            # On ZeroGPU Stop does not reach this side of the stream, and what is not shown is lost.
            if last or zerogpu.on() or time.perf_counter() - refreshed >= REFRESH:
                text = f"{n + 1} of {made.size} pictures; {escape(made.title)}."
                done, tone = (None, "good") if last else ((n + 1) / made.size, "plain")
                sheet = _sheet(made, drawn, about, path, erased)
                yield Shown(pictures.note(text, tone=tone, done=done), *sheet)
                refreshed = time.perf_counter()


def _steps(model: DiffusionModel, cell: dict[str, Any], unets: dict[Value, Any]) -> Iterator[Step]:
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


def parameters(model: DiffusionModel, erasure: Erasure, made: Grid) -> png_parameters.Parameters:
    """What its sheet tells about itself."""
    one = made.fixed
    return png_parameters.of(
        model,
        erasure,
        (str(one["prompt"]),),
        (int(one["seed"]),),
        strength=float(one["strength"]),
        guidance_scale=float(one["guidance scale"]),
        num_inference_steps=int(one["steps"]),
        scheduler=str(one["scheduler"]),
        axes=made.axes,
    )


def _sheet(
    made: Grid, drawn: Tensor, about: png_parameters.Parameters, path: Path, erased: str
) -> tuple[str, str]:
    """The labelled sheet for the page, and as a file that tells its settings."""
    drawing = figures.sheet(
        drawn,
        [label(made.down, v) for v in made.rows],
        [label(made.across, v) for v in made.columns],
        title=made.title,
    )
    png_parameters.save(png_parameters.stamp(drawing, about), path)
    down, across = (f"{knob} {values}" for knob, values in reversed(made.axes))
    alt = (
        f"Grid of {made.size} pictures, erased: {erased or 'not recorded'}; down: {down}; across: "
        f"{across}; {made.title}"
    )
    return pictures.shown_file(path, alt), str(path)
