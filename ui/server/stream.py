"""The moments of a stream on the page, and what a visitor is told when there are none.

A moment is a tuple with a value for every output of its event; SKIP leaves an output as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any, TypeVar

import gradio as gr

from esd_core import DivergenceError

TICK = 0.25  # seconds between two statuses
# What a drawing computes before others have their turn: about as long as an update of a run takes,
# so that it gets its share beside one, and short enough for their Stop.
SHARE = 0.6  # seconds
SKIP: Any = gr.skip()
M = TypeVar("M")
P = TypeVar("P", bound=tuple[Any, ...])
R = TypeVar("R")
S = TypeVar("S")


def thinned(moments: Iterator[P]) -> Iterator[P]:
    """Without the moments that are only a status and follow another within TICK: showing costs."""
    shown_at = 0.0

    def worth_it(moment: P) -> bool:
        nonlocal shown_at
        now = time.perf_counter()
        if now - shown_at < TICK and all(part is SKIP for part in moment[1:]):
            return False
        shown_at = now
        return True

    return filter(worth_it, moments)


def between(steps: Generator[S, None, R], show: Callable[[S], M]) -> Generator[M, None, R]:
    """What `show` says of something long between its steps, once in a SHARE; returns its result."""
    shown_at = time.perf_counter() - SHARE
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if time.perf_counter() - shown_at >= SHARE:
            yield show(step)
            shown_at = time.perf_counter()  # others may have computed for long meanwhile


@contextmanager
def refusals() -> Iterator[None]:
    """What `esd_core` refuses reaches the visitor in the same words."""
    try:
        yield
    except (ValueError, DivergenceError) as refused:
        message = escape(str(refused), quote=False)
        raise gr.Error(message, title="Not done", print_exception=False) from refused
