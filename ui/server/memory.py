"""What the visitors of an app keep in memory, all together: how much, how long, who makes room."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import gradio as gr
import torch
from gradio.state_holder import SessionState, StateHolder
from torch import Tensor

from ui.server.session import log
from ui.server.stop import Turn

GRACE = 60  # seconds that what a page kept outlives it, for a connection that was only lost
MOST = 2 * 2**30  # bytes of tensors that all visitors keep together
RESTING = 640 * 2**20  # bytes of a run that can be continued: weights, moments, examples
EXAMPLES = 128 * 2**20  # bytes of a run's examples that are kept for whoever comes next
IDLE = 60  # seconds without any event after which a visitor may have to make room
# Beyond this many pages Gradio forgets the one longest unused, whatever it keeps. Closed pages
# count until `forget`; an open one takes a third of a megabyte besides its tensors, which MOST
# bounds.
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


def size(value: Any) -> int:  # noqa: ANN401
    """Bytes of the tensors inside, each storage once."""
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(value)}
    return sum(stored.values())


def kept(holder: StateHolder) -> dict[str, int]:
    """Bytes by session, the longest idle one first."""
    sessions = list(holder.session_data.items())
    return {key: size(list(session.state_data.values())) for key, session in sessions}


def make_room(holder: StateHolder, most: int | None = None, idle: float | None = None) -> int:
    """Drop what the longest idle visitors keep until all together keep at most `most` bytes.

    Nobody who did something in the last `idle` seconds loses anything. Returns how many were
    dropped.
    """
    most, idle = MOST if most is None else most, IDLE if idle is None else idle
    sizes, dropped = kept(holder), 0
    now, total = datetime.datetime.now(), sum(sizes.values())
    for key, own in sizes.items():
        used = holder.time_last_used.get(key, now)
        if total <= most:
            break
        if own and (now - used).total_seconds() >= idle:
            holder.delete_state(key)
            stop(holder.session_data[key])  # its turn may hold what a client's run has left
            total, dropped = total - own, dropped + 1
    if dropped:
        log.info("dropped the erasures of %d idle visitors to make room", dropped)
    return dropped


def left(demo: gr.Blocks, request: gr.Request) -> None:
    """A page was closed, or its connection lost: its erasing run or grid ends, and GRACE begins."""
    session = demo.state_holder.session_data.get(request.session_hash)
    if session is not None and request.session_hash is not None:
        stop(session)
        expire(session)
        left_at[request.session_hash] = datetime.datetime.now()


def forget(holder: StateHolder) -> None:
    """Forget the pages that were left GRACE seconds ago and keep nothing any more.

    Gradio drops what they keep, but not the session itself, which would take a visitor's place.
    """
    now = datetime.datetime.now()
    for key, when in list(left_at.items()):
        if (now - when).total_seconds() < GRACE:
            continue
        session = holder.session_data.get(key)
        if session is None or not size(list(session.state_data.values())):
            with holder.lock:
                holder.session_data.pop(key, None)
            holder.time_last_used.pop(key, None)
            del left_at[key]


def stop(session: SessionState) -> None:
    """End what nobody waits for: Gradio lets a Python client's go on to its end."""
    for key, value in list(session.state_data.items()):
        if isinstance(value, Turn):
            value.stopped = True
            session.state_data[key] = Turn()  # for a client whose connection comes back


def expire(session: SessionState) -> None:
    """Keep what it has for GRACE seconds more, not for an hour after its last change.

    Gradio calls the session closed for good. But a connection that was lost can come back, and what
    its page then makes has to last as long as anybody's.
    """
    now = datetime.datetime.now()
    session.is_closed = False
    for key in list(session._state_ttl):
        session._state_ttl[key] = (GRACE, now)


def look_after(demo: gr.Blocks) -> None:
    """Make room when someone comes; start the clock when someone leaves."""

    def come() -> None:
        forget(demo.state_holder)
        make_room(demo.state_holder)

    def gone(request: gr.Request) -> None:
        left(demo, request)
        make_room(demo.state_holder)

    demo.load(come, None, None, queue=False, api_visibility="private")
    demo.unload(gone)
