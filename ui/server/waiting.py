"""Where what can be stopped waits for a place, so that Stop and a closed page reach it there, too.

In Gradio's own queue a run or a grid that was stopped would keep its page waiting until its place
had come.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from ui.server.stop import Turn
from ui.server.stream import SKIP
from ui.shared import pictures

PLACES = 4  # under way in a line; a run holds the memory of a training step
MOST = 16  # under way and waiting; further ones stay in Gradio's queue
LOOK = 0.25  # seconds between two looks at the line

Stream = Callable[..., Iterator[Any]]

_lines: dict[str, list[object]] = defaultdict(list)  # in the order in which they came


def in_line(fn: Stream, what: str, parts: int) -> Stream:
    """The same stream, when it has a place; until then its status says what it waits for.

    Args:
        what: stands in that line, such as "run".
        parts: of the page, of which the first is the status.
    """
    as_it_was = [SKIP] * parts

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        turn, ticket, line = Turn.among(args, kwargs), object(), _lines[what]
        line.append(ticket)
        try:
            yield as_it_was  # a stream without any moment would empty all of the page
            while (before := line.index(ticket) + 1 - PLACES) > 0 and not turn.stopped:
                yield [pictures.note(waiting(before, what)), *as_it_was[1:]]
                time.sleep(LOOK)
            if not turn.stopped:
                yield from fn(*args, **kwargs)
        finally:
            line.remove(ticket)

    return stream


def waiting(before: int, what: str) -> str:
    """What one in line says of those that must end before it."""
    others = f"another {what} ends" if before == 1 else f"{before} other {what}s end"
    return f"Waiting for a place: it begins when {others}. Stop takes it out of the line."
