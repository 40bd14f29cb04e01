"""Who may wait for whom: the queues of what computes, and how many of each go on at once.

Runs and grids can be stopped. They wait for a place here and not in Gradio's own queue, where one
that was stopped would keep its page waiting until its place had come.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from ui.server import processor, zerogpu
from ui.server.stream import SKIP, Job

# The queues, each a concurrency_id of Gradio's.
RUN, GRID = "run", "grid"
MODEL = "model"  # comparisons and measurements
LOOK, PICK = "look", "pick"  # short, or optional: they wait for none of the others
AT_ONCE = 4  # of MODEL under way; further ones see their position
PLACES = 4  # under way of RUN, and of GRID; a run holds the memory of a training step
IN_LINE = 16  # under way and waiting; further ones stay in Gradio's queue
POLL = 0.25  # seconds after which one that waits looks again whether its place has come

LINES: dict[str, list[object]] = defaultdict(list)  # in the order in which they came


def share(demo: gr.Blocks, status: Callable[[str], str]) -> None:
    """Let the page's long events of several visitors go on side by side, step by step.

    `status` makes the HTML of a status from a sentence.
    """
    for event in demo.fns.values():
        queue = event.concurrency_id
        if queue in (RUN, GRID, MODEL, LOOK, PICK):
            event.fn = processor.in_turns(event.fn)
        if queue in (RUN, GRID, MODEL):
            event.concurrency_limit = AT_ONCE
        if queue in (RUN, GRID) and not zerogpu.on():
            event.concurrency_limit = IN_LINE
            event.fn = in_line(event.fn, queue, len(event.outputs), status)


def in_line(
    fn: Callable[..., Iterator[Any]], queue: str, outputs: int, status: Callable[[str], str] = str
) -> Callable[..., Iterator[Any]]:
    """The stream, which begins when it has a place; until then the first of its outputs, its status, says
    what it waits for."""
    as_it_was = [SKIP] * outputs

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        job, ticket, line = Job.among(args, kwargs), object(), LINES[queue]
        line.append(ticket)
        try:
            yield as_it_was  # a stream without any moment would empty all of the page
            while (before := line.index(ticket) + 1 - PLACES) > 0 and not job.stopped:
                others = f"another {queue} ends" if before == 1 else f"{before} other {queue}s end"
                text = f"Waiting for a place: it begins when {others}. Stop takes it out of the line."
                yield [status(text), *as_it_was[1:]]
                time.sleep(POLL)
            if not job.stopped:
                yield from fn(*args, **kwargs)
        finally:
            line.remove(ticket)

    return stream
