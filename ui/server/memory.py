"""What the visitors of an app keep in memory, all together: how much, how long, who makes room."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

import gradio as gr
import torch
from gradio.state_holder import SessionState, StateHolder
from torch import Tensor

from ui.server.session import log
from ui.server.stop import Job

GRACE = 60  # seconds that what a page kept outlives it, for a connection that was only lost
ENDING = 15  # seconds in which a job that was stopped may still use its page's states
TOGETHER = 2 * 2**30  # bytes of tensors that all visitors keep together
RESTING = 640 * 2**20  # bytes of a run that can be continued: weights, moments, examples
EXAMPLES = 128 * 2**20  # bytes of a run's examples that are kept for whoever comes next
IDLE = 60  # seconds without any event after which a visitor may have to make room
# Beyond this many pages Gradio forgets the one longest unused, whatever it keeps. Closed pages
# count until `forget`; an open one takes a third of a megabyte besides its tensors.
PAGES = 512
left_at: dict[str, datetime.datetime] = {}  # when the page of a session was left


def tensors(value: Any) -> Iterator[Tensor]:  # noqa: ANN401
    """Every tensor inside a state's value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)
    elif is_dataclass(value) and not isinstance(value, type):
        for part in fields(value):
            yield from tensors(getattr(value, part.name))


def tensor_bytes(value: Any) -> int:  # noqa: ANN401
    """Bytes of the tensors inside, each storage once."""
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(value)}
    return sum(stored.values())


def kept(holder: StateHolder) -> dict[str, int]:
    """Bytes by session, the longest idle one first."""
    sessions = list(holder.session_data.items())
    return {key: tensor_bytes(list(session.state_data.values())) for key, session in sessions}


def delete(holder: StateHolder, key: str) -> None:
    """Delete what a session keeps. Gradio raises if it is deleting the same as expired."""
    with suppress(KeyError):
        holder.delete_state(key)


def make_room(holder: StateHolder, most: int = TOGETHER) -> int:
    """Drop what the longest idle visitors keep until all together keep at most `most` bytes.

    Nobody who did something in the last IDLE seconds loses anything. Returns how many were dropped.
    """
    sizes, dropped = kept(holder), 0
    now, total = datetime.datetime.now(), sum(sizes.values())
    for key, own in sizes.items():
        used = holder.time_last_used.get(key, now)
        if total <= most:
            break
        if own and (now - used).total_seconds() >= IDLE:
            delete(holder, key)
            stop(holder.session_data[key])  # its job may hold what a client's run has left
            total, dropped = total - own, dropped + 1
    if dropped:
        log.info("dropped the erasures of %d idle visitors to make room", dropped)
    return dropped


def stop(session: SessionState) -> None:
    """End what nobody waits for: Gradio lets a Python client's go on to its end."""
    for key, value in list(session.state_data.items()):
        if isinstance(value, Job):
            value.stopped = True
            session.state_data[key] = Job()  # for a client whose connection comes back


def left(holder: StateHolder, key: str) -> None:
    """A page was closed, or its connection lost: its erasing run or grid ends, and GRACE begins."""
    if key in holder:
        stop(holder.session_data[key])
        left_at[key] = datetime.datetime.now()
        timer = threading.Timer(GRACE, forget, [holder])
        timer.daemon = True
        timer.start()


def forget(holder: StateHolder, grace: float | None = None) -> None:
    """Forget the pages that were left `grace` (GRACE) seconds ago and did not come back.

    Gradio itself would keep what they have for an hour, and the session, which takes a visitor's
    place, for good.
    """
    now = datetime.datetime.now()
    for key, when in list(left_at.items()):
        if (now - when).total_seconds() < (GRACE if grace is None else grace):
            continue
        if left_at.pop(key, None) is None:  # another thread forgets it
            continue
        used = holder.time_last_used.get(key, when)
        if (used - when).total_seconds() <= ENDING:
            delete(holder, key)
            with holder.lock:
                holder.session_data.pop(key, None)
            holder.time_last_used.pop(key, None)


def look_after(demo: gr.Blocks) -> None:
    """Make room when someone comes or leaves; begin the GRACE of whoever leaves."""

    def come() -> None:
        make_room(demo.state_holder)

    def leave(request: gr.Request) -> None:
        left(demo.state_holder, request.session_hash or "")
        make_room(demo.state_holder)

    demo.load(come, None, None, queue=False, api_visibility="private")
    demo.unload(leave)
