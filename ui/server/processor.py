"""Several visitors, one processor: one thread computes, and every step stands in line for it.

The frozen model is never changed and each visitor trains a copy of their own, so nothing needs a
lock to be right. But runs that go on side by side on the same cores slow each other down unevenly
and hold the memory of a training step each. So runs, which yield at every update and every
denoising step, take turns, in the order in which they ask.

It is one thread for all, from loading the model on, because every thread that computes has OpenMP
threads of its own, and where those outnumber the cores all of them sleep at every barrier.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import current_thread
from typing import Any

import gradio as gr

from ui.server import waiting, zerogpu

AT_ONCE = 4  # comparisons and measurements under way; further ones see their position
LINED = RUN, GRID = "run", "grid"  # concurrency_id of what can be stopped; each has its own line
MODEL = "model"  # of the other events that compute for long
LOOK, PICK = "look", "pick"  # of those that do not queue behind the long ones: short, or optional
PROCESSOR = ThreadPoolExecutor(1, "processor")


def compute(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """Call it on the one thread that computes, when those who asked before have had their step.

    That thread itself does not stand in line: it may be the one that closes a forgotten stream. On
    ZeroGPU nobody does: the machine there has a line of its own, for processes (`in_turns`).
    """
    if zerogpu.on() or current_thread() in PROCESSOR._threads:
        return fn(*args, **kwargs)
    return PROCESSOR.submit(copy_context().run, fn, *args, **kwargs).result()


def in_turns(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, on that thread; of a generator function, every step by itself."""
    if zerogpu.on():
        return zerogpu.lent(fn)

    @functools.wraps(fn)
    def whole(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return compute(fn, *args, **kwargs)

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps, done = fn(*args, **kwargs), object()
        try:
            while (shown := compute(next, steps, done)) is not done:
                yield shown
        finally:
            compute(steps.close)

    return stream if inspect.isgeneratorfunction(inspect.unwrap(_plain(fn))) else whole


def share(demo: gr.Blocks) -> None:
    """Let the page's long events of several visitors run side by side, step by step."""
    for event in demo.fns.values():
        name = event.concurrency_id
        if name in (*LINED, MODEL):
            event.concurrency_limit = AT_ONCE
        if name in (*LINED, MODEL, LOOK, PICK):
            event.fn = in_turns(event.fn)
        if name in LINED and not zerogpu.on():
            event.concurrency_limit = waiting.MOST
            event.fn = waiting.in_line(event.fn, name, len(event.outputs))


def _plain(fn: Any) -> Any:  # noqa: ANN401
    return _plain(fn.func) if isinstance(fn, functools.partial) else fn
