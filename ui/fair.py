"""Several visitors, one processor: whoever computes lets the next one in after every step.

The frozen model is never changed and each visitor trains a copy of their own, so nothing needs a
lock to be right. But runs that go on side by side on the same cores slow each other down unevenly
and hold the memory of a training step each. So runs, which yield at every update and every
denoising step, take turns, in the order in which they ask.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Iterator
from threading import Lock
from types import TracebackType
from typing import Any

import gradio as gr

AT_ONCE = 4  # runs and comparisons under way; further ones queue and see their position
MODEL = "model"  # concurrency_id of the events that compute for long


class Turns:
    """A lock that is handed on in the order in which it was asked for.

    (Whoever releases a `threading.Lock` and wants it again at once usually gets it.)
    """

    def __init__(self) -> None:
        self._guard, self._taken = Lock(), False
        self._waiting: deque[Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            mine = Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


def in_turns(turns: Turns, stream: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """The same generator function, every step of which waits for its turn."""

    @functools.wraps(stream)
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps, done = stream(*args, **kwargs), object()
        try:
            while True:
                with turns:
                    shown = next(steps, done)
                if shown is done:
                    return
                yield shown
        finally:
            steps.close()  # type: ignore[attr-defined]

    return run


def share(demo: gr.Blocks, turns: Turns | None = None) -> Turns:
    """Let the page's long events of several visitors run side by side, streams in turns.

    A plain function cannot be interrupted: it runs beside whoever has the turn.
    """
    turns = turns or Turns()
    for event in demo.fns.values():
        if event.concurrency_id == MODEL:
            event.concurrency_limit = AT_ONCE
            if inspect.isgeneratorfunction(inspect.unwrap(_plain(event.fn))):
                event.fn = in_turns(turns, event.fn)
    return turns


def _plain(fn: Any) -> Any:  # noqa: ANN401
    return _plain(fn.func) if isinstance(fn, functools.partial) else fn
