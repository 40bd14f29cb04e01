"""ZeroGPU, the hardware of Spaces that lends a GPU to one call at a time.

Such a call runs in a process of its own: what goes there and what comes back is pickled, so tensors
must be on the CPU, and nothing that it changes outside of what it returns is seen here. Erasures
and checkpoints always are. Only Stop reaches into a run, and so it stays on this side.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ui.server.stream import Job

SECONDS = 120  # of a GPU that a call may ask for; a longer run ends there and keeps what it has


def on(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process runs on a ZeroGPU Space, as the package `spaces` tells it."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


if on():  # before a model is loaded, because it tells torch what to do where there is no GPU yet
    import spaces  # type: ignore[import-not-found]  # installed there, and needed nowhere else


def lent(fn: Callable[..., Any], lend: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The same function, or generator function, with a GPU lent to each call, by default by `spaces.GPU`."""
    far = (lend or functools.partial(spaces.GPU, duration=SECONDS))(fn)
    if not inspect.isgeneratorfunction(fn):
        return far

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
        yield from Job.among(args, kwargs).until_stop(far(*args, **kwargs))

    return stream
