"""One moment of a run on the page, and what a visitor is told when there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, NamedTuple, TypeVar

import gradio as gr

from esd_core import DivergenceError

TICK = 0.25  # seconds
# What a drawing computes before others have their turn: about as long as an update of a run takes,
# so that it gets its share beside one, and short enough for their Stop.
TURN = 0.6  # seconds
# Of events that refuse something and compute nothing: in the queue, because gradio says nothing of
# an error outside of it, but not one after the other.
AT_ONCE: dict[str, Any] = dict(concurrency_limit=None, show_progress="hidden")
SKIP: Any = gr.skip()
M = TypeVar("M")
P = TypeVar("P", bound=tuple[Any, ...])
R = TypeVar("R")
S = TypeVar("S")


class Shown(NamedTuple):
    """One moment, part by part as on the page; SKIP leaves a part as it is."""

    status: Any = SKIP
    strip: Any = SKIP
    film: Any = SKIP
    presence: Any = SKIP
    loss: Any = SKIP
    error: Any = SKIP
    erasure: Any = SKIP
    download: Any = SKIP
    seed: Any = SKIP
    paused: Any = SKIP


def thinned(moments: Iterator[P]) -> Iterator[P]:
    """Without the statuses that follow another within TICK: showing them costs, too."""
    told = 0.0
    for shown in moments:
        only_status = all(part is SKIP for part in shown[1:])
        if only_status and time.perf_counter() - told < TICK:
            continue
        told = time.perf_counter()
        yield shown


def between(steps: Generator[S, None, R], show: Callable[[S], M]) -> Generator[M, None, R]:
    """What `show` says of something long between its steps, once in a TURN; returns its result."""
    told = time.perf_counter() - TURN
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if time.perf_counter() - told >= TURN:
            yield show(step)
            told = time.perf_counter()  # of this turn, however long the others' took


@contextmanager
def told() -> Iterator[None]:
    """What `esd_core` refuses reaches the visitor in the same words."""
    try:
        yield
    except (ValueError, DivergenceError) as refused:
        message = escape(str(refused), quote=False)
        raise gr.Error(message, title="Not done", print_exception=False) from refused
