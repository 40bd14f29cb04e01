"""Several visitors, one processor: one thread computes everything, step by step.

The frozen model is never changed and each visitor trains a copy of their own, so nothing needs a
lock to be right. But runs that go on side by side on the same cores slow each other down unevenly
and hold the memory of a training step each. So all that computes takes turns at every update and
every denoising step, in the order in which the steps were asked for.

It is one thread for all, from loading the model on, because every thread that computes has OpenMP
threads of its own, and where those outnumber the cores all of them sleep at every barrier.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from ui.server import zerogpu

_own = threading.local()  # `computes` is set on the one thread alone
PROCESSOR = ThreadPoolExecutor(1, "processor", lambda: setattr(_own, "computes", True))


def compute(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call it on the one thread that computes, after the steps that were asked for before.

    That thread itself calls it at once: it may be the one that closes a forgotten stream. So does
    every thread on ZeroGPU, where each call has a process of its own.
    """
    if zerogpu.on() or hasattr(_own, "computes"):
        return fn(*args, **kwargs)
    return PROCESSOR.submit(copy_context().run, fn, *args, **kwargs).result()


def in_turns(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, called on that thread; a generator function runs there step by step."""
    if zerogpu.on():
        return zerogpu.lent(fn)

    @functools.wraps(fn)
    def whole(*args: Any, **kwargs: Any) -> Any:
        return compute(fn, *args, **kwargs)

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps, done = fn(*args, **kwargs), object()
        try:
            while (moment := compute(next, steps, done)) is not done:
                yield moment
        finally:
            compute(steps.close)

    return stream if inspect.isgeneratorfunction(inspect.unwrap(fn)) else whole
