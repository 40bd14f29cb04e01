"""Where erasing runs wait for a place, so that Stop and a closed page reach them there, too.

In Gradio's own queue a run that was stopped would keep its page waiting until its place had come.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from typing import Any

from ui import pictures
from ui.moment import Shown
from ui.turn import Turn

PLACES = 4  # runs under way; each holds the memory of a training step
MOST = 16  # under way and waiting; further ones stay in Gradio's queue
LOOK = 0.25  # seconds between two looks at the line

_line: list[object] = []  # in the order in which they came; the first PLACES run


def in_line(fn: Callable[..., Iterator[Shown]]) -> Callable[..., Iterator[Shown]]:
    """The same stream, when it has a place; until then its status says what it waits for."""

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Shown]:
        yield from Turn.among(args, kwargs).of(_placed(fn(*args, **kwargs)))

    return stream


def _placed(steps: Iterator[Shown]) -> Iterator[Shown]:
    ticket = object()
    _line.append(ticket)
    try:
        while (before := _line.index(ticket) + 1 - PLACES) > 0:
            yield Shown(pictures.note(waiting(before)))
            time.sleep(LOOK)
        yield from steps
    finally:
        _line.remove(ticket)


def waiting(before: int) -> str:
    """What a run in line says of those that must end before it."""
    runs = "another run ends" if before == 1 else f"{before} other runs end"
    return f"Waiting for a place: it begins when {runs}. Stop takes it out of the line."
