"""What a grid can vary: each knob with its values as a visitor types and reads them, and two as a grid."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from esd_core import DiffusionModel, Erasure, card
from esd_core.config import GUIDANCE, SEEDS
from esd_core.erasure import STRENGTHS
from esd_core.sampling import SCHEDULERS
from esd_core.study.watched_prompts import to_watch
from ui.server import stream
from ui.shared import erasure_text, prompts

MOST_STEPS = 100
MOST_PICTURES = 36  # of a grid, so that one visitor cannot keep the others waiting
MOST_DEFAULTS = 6  # prompts that an empty box stands for
EMPTY_PROMPT = '""'
# What a knob starts with when it is chosen.
KNOBS = {
    "strength": "-1, 0, 0.5, 1, 2",
    "guidance scale": "1, 2, 4, 8",
    "steps": "5, 10, 20, 40",
    "scheduler": ", ".join(SCHEDULERS),
    "seed": "1, 2, 3",
    "prompt": "",
}
RANGES = {"strength": STRENGTHS, "guidance scale": GUIDANCE, "steps": (1, MOST_STEPS), "seed": SEEDS}
WHOLE = ("steps", "seed")
Value = float | int | str


def values(model: DiffusionModel, knob: str, text: str, empty: list[str]) -> tuple[Value, ...]:
    """A knob's values from text: separated by commas, prompts by new lines or semicolons.

    `empty` are the prompts that an empty box stands for.
    """
    if knob not in KNOBS:
        raise ValueError(f"unknown knob {knob!r}; choose one of: {', '.join(KNOBS)}")
    if knob == "prompt":
        if found := listed_prompts(model, text, "\n;") or empty:
            return tuple(found)
        raise ValueError(erasure_text.NOT_NAMED)
    if parts := [part for part in re.split(r"[\s,;]+", text or "") if part]:
        return tuple(_value(knob, part) for part in parts)
    raise ValueError(f"{knob}: give at least one value, such as {KNOBS[knob]}")


def start(model: DiffusionModel, knob: str, text: str) -> str:
    """What a knob that was chosen starts with; what was typed stays if it suits the knob.

    A list that loses the focus tells of a choice, too.
    """
    if text not in KNOBS.values():
        with suppress(ValueError):
            values(model, knob, text, [])
            return stream.SKIP
    return stream.SKIP if text == KNOBS[knob] else KNOBS[knob]


def listed_prompts(model: DiffusionModel, text: str, separators: str) -> list[str]:
    """Prompts from text, `""` for the empty one; [] if there are none."""
    parts = [" ".join(part.split()) for part in re.split(f"[{separators}]", text or "") if part.strip()]
    found = ["" if part == EMPTY_PROMPT else part for part in parts]
    for prompt in found:
        prompts.refuse_unknown_words(model, prompt)
    return found


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


def written(values: tuple[Value, ...]) -> str:
    """Values as a visitor would type them."""
    texts = [(v or EMPTY_PROMPT) if isinstance(v, str) else f"{v:.10g}" for v in values]
    return "; ".join(texts)


def label(knob: str, value: Value) -> str:
    """A knob's setting, for a reader."""
    if knob == "prompt":
        return str(value) or "(empty prompt)"
    return f"{knob} {value:g}" if isinstance(value, float) else f"{knob} {value}"


@dataclass(frozen=True)
class Grid:
    """Two knobs with their values; all others are fixed."""

    across: str
    columns: tuple[Value, ...]
    down: str
    rows: tuple[Value, ...]
    fixed: dict[str, Value]  # a value for every knob

    @property
    def cells(self) -> dict[tuple[int, int], dict[str, Any]]:
        """All knobs of each picture, by (row, column), in the order in which they are drawn."""
        return {
            (i, j): {**self.fixed, self.down: row, self.across: column}
            for i, row in enumerate(self.rows)
            for j, column in enumerate(self.columns)
        }

    @property
    def title(self) -> str:
        """The fixed knobs, as one line."""
        return ", ".join(label(n, self.fixed[n]) for n in KNOBS if n not in (self.across, self.down))

    @property
    def axes(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both knobs with their values as `knobs.values` reads them, across first."""
        return (self.across, written(self.columns)), (self.down, written(self.rows))


def plan(
    model: DiffusionModel,
    erasure: Erasure | None,
    across: str,
    columns: str,
    down: str,
    rows: str,
    **fixed: Value,
) -> Grid:
    """The grid that the fields describe; of prompts and seeds that are `fixed` the first is taken."""
    if across == down:
        raise ValueError(f"both knobs are {across!r}; choose two different ones")
    empty = _defaults(model, erasure)
    unread = empty or [""] * ("prompt" in (across, down))  # what an axis takes over is not drawn
    one = {knob: values(model, knob, str(fixed[knob.replace(" ", "_")]), unread)[0] for knob in KNOBS}
    made = Grid(across, values(model, across, columns, empty), down, values(model, down, rows, empty), one)
    if len(made.cells) > MOST_PICTURES:
        raise ValueError(
            f"{len(made.rows)} rows of {len(made.columns)} make {len(made.cells)} pictures; "
            f"ask for {MOST_PICTURES} or fewer"
        )
    return made


def _defaults(model: DiffusionModel, erasure: Erasure | None) -> list[str]:
    """The prompts that an empty box stands for; [] if the erasure does not say what it erases."""
    if erasure is None:
        first = prompts.phrase(model, prompts.first_choice(model))
        return [w.prompt for w in to_watch(model, first)]
    return erasure_text.default_prompts(model, erasure, MOST_DEFAULTS) if card.concepts(erasure) else []
