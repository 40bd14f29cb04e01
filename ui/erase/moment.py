"""What a run puts on the page: a moment of its stream, the buttons, the visitor's states."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr
import pandas as pd

from esd_core import Erasure
from ui.erase.run_record import Paused
from ui.server import session
from ui.server.stop import Job
from ui.server.stream import SKIP
from ui.shared import erasure_text

Curve = pd.DataFrame | gr.LinePlot


class RunMoment(NamedTuple):
    """One moment of a run, in the order of its event's outputs; SKIP leaves a part as it is."""

    status: str = SKIP
    strip: str = SKIP
    film: str = SKIP
    presence: Curve = SKIP
    loss: Curve = SKIP
    error: Curve = SKIP
    erasure: Erasure | None = SKIP
    download: str = SKIP
    seed: int = SKIP
    paused: Paused | None = SKIP


def erasure_state() -> gr.State:
    """A visitor's own erasure; None until something was erased."""
    return gr.State(None, time_to_live=session.LIFETIME, delete_callback=_dropped)


def _dropped(erasure: Erasure | None) -> None:
    if erasure is not None:
        session.log.info("dropped a visitor's erasure of %s", erasure_text.concepts(erasure))


def busy(**_: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The buttons Erase, Stop, Continue, Reset and Download while a run goes on, and its job."""
    off, on = gr.Button(interactive=False), gr.Button(interactive=True)
    return off, on, off, off, gr.DownloadButton(value=None, interactive=False), Job()


def idle(erasure: Erasure | None, paused: Paused | None) -> tuple[gr.Button | gr.DownloadButton, ...]:
    """The same buttons when nothing runs."""
    on, off = gr.Button(interactive=True), gr.Button(interactive=False)
    more, clear = (gr.Button(interactive=kept is not None) for kept in (paused, erasure))
    return on, off, more, clear, gr.DownloadButton(interactive=erasure is not None)
