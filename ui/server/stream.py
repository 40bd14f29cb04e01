"""The moments of a stream on the page, Stop, and what a visitor is told of what is refused.

A moment is a tuple with a value for every output of its event; SKIP leaves an output as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar

import gradio as gr

from esd_core import DivergenceError, Erasure

TICK = 0.25  # seconds between two statuses
# What a drawing computes before others have their turn: about as long as an update of a run takes,
# so that it gets its share beside one, and short enough for their Stop.
SHARE = 0.6  # seconds
SKIP: Any = gr.skip()
M = TypeVar("M")
P = TypeVar("P", bound=tuple[Any, ...])
R = TypeVar("R")
S = TypeVar("S")


@dataclass
class Job:
    """One press of Erase, Continue or Draw grid; each page has its latest of each tab in a state.

    Stop asks the job to end and the job ends itself. (Gradio's own way, to cancel its event, once
    left a page waiting for a Continue pressed at once, and once without Stop when a grid was drawn
    again at once: what belongs to the end of the first may reach the second.)
    """

    stopped: bool = False
    erasure: Erasure | None = None  # what a run has left so far, until its end is told

    @classmethod
    def among(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Job:
        """The one that a call was given; a new one, which nobody stops, if there is none."""
        return next((own for own in (*args, *kwargs.values()) if isinstance(own, cls)), cls())

    def until_stop(self, moments: Iterator[S]) -> Iterator[S]:
        """The moments up to Stop; the erasure of the last one that has any is kept."""
        if self.stopped:
            return
        for moment in moments:
            if self.stopped:
                return
            if isinstance(left := getattr(moment, "erasure", None), Erasure):
                self.erasure = left
            yield moment


def halt(job: Job) -> gr.Button:
    """Stop: ask the job to end at its next step, which may be seconds away; once is enough."""
    job.stopped = True
    return gr.Button(interactive=False)


def thinned(moments: Iterator[P]) -> Iterator[P]:
    """Without the moments that are only a status and follow another within TICK: showing costs."""
    shown_at = 0.0
    for moment in moments:
        now = time.perf_counter()
        if now - shown_at >= TICK or any(part is not SKIP for part in moment[1:]):
            shown_at = now
            yield moment


def between(
    steps: Generator[S, None, R], show: Callable[[S], M], share: float = SHARE
) -> Generator[M, None, R]:
    """What `show` says of something long between its steps, once in `share` seconds; returns its result."""
    shown_at = time.perf_counter() - share
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if time.perf_counter() - shown_at >= share:
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
