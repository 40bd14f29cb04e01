"""What the visitors of an app keep: how long, in which files, how much all together, who makes room.

`gr.State` keeps one value per open page; the frozen model is shared by all and never changed.
"""

from __future__ import annotations

import datetime
import logging
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.state_holder import StateHolder
from gradio.utils import get_upload_folder
from torch import Tensor

from ui.server.stream import Job

LIFETIME = 3600  # seconds an erasure, and its file, are kept after their last change
GRACE = 60  # seconds that what a page kept outlives it, for a connection that was only lost
ENDING = 15  # seconds in which a job that was stopped may still use its page's states
TOGETHER = 2 * 2**30  # bytes of tensors that all visitors keep together
RESTING = 640 * 2**20  # bytes of a run that can be continued: weights, moments, examples
EXAMPLES = 128 * 2**20  # bytes of a run's examples that are kept for whoever comes next
IDLE = 60  # seconds without any event after which a visitor may have to make room
# Beyond this many pages Gradio forgets the one longest unused, whatever it keeps. Closed pages
# count until `forget`; an open one takes a third of a megabyte besides its tensors.
PAGES = 512
log = logging.getLogger("esd_lab")


def new_file(name: str) -> Path:
    """A path in a fresh folder of Gradio's cache, which Gradio empties of old files."""
    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache)) / name


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside a state's value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.state_dict().values()
    elif is_dataclass(value):
        yield from tensors(vars(value))
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from tensors(part)


def tensor_bytes(value: Any) -> int:
    """Bytes of the tensors inside, each storage once."""
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors(value)}
    return sum(stored.values())


def kept(holder: StateHolder) -> dict[str, int]:
    """Bytes by session, the longest idle one first."""
    sessions = list(holder.session_data.items())
    return {key: tensor_bytes(list(session.state_data.values())) for key, session in sessions}


def make_room(holder: StateHolder, most: int = TOGETHER) -> int:
    """Drop what the longest idle visitors keep until all together keep at most `most` bytes.

    Nobody who did something in the last IDLE seconds loses anything. Returns how many were dropped.
    """
    sizes, dropped = kept(holder), 0
    now, total = datetime.datetime.now(), sum(sizes.values())
    for key, own in sizes.items():
        used = holder.time_last_used.get(key, now)
        if own and total > most and (now - used).total_seconds() >= IDLE:
            drop(holder, key)
            total, dropped = total - own, dropped + 1
    if dropped:
        log.info("dropped the erasures of %d idle visitors to make room", dropped)
    return dropped


def drop(holder: StateHolder, key: str) -> None:
    """Stop what goes on for a page, which may hold what a client's run has left, and drop what it keeps."""
    stop(holder, key)
    with suppress(KeyError, RuntimeError):  # another thread drops the same; Gradio does what is expired
        holder.delete_state(key)


def stop(holder: StateHolder, key: str) -> None:
    """End what nobody waits for: Gradio lets a Python client's go on to its end."""
    session = holder.session_data.get(key)
    for state, value in list(session.state_data.items()) if session else ():
        if isinstance(value, Job):
            value.stopped = True
            session.state_data[state] = Job()  # for a client whose connection comes back


def left(holder: StateHolder, key: str) -> None:
    """A page was closed, or its connection lost: its erasing run or grid ends, and GRACE begins."""
    if key not in holder:
        return
    stop(holder, key)
    timer = threading.Timer(GRACE, forget, [holder, key, datetime.datetime.now()])
    timer.daemon = True
    timer.start()


def forget(holder: StateHolder, key: str, when: datetime.datetime) -> None:
    """Forget a page that was left then, unless it came back.

    Gradio itself would keep what it has for an hour, and the session, which takes a visitor's
    place, for good.
    """
    used = holder.time_last_used.get(key, when)
    if (used - when).total_seconds() <= ENDING:
        drop(holder, key)
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
