"""Whose turn it is: Stop and the end of what goes on for long, and the Erase tab's buttons then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from esd_core import Erasure

S = TypeVar("S")


@dataclass
class Turn:
    """One press of Erase, Continue or Draw grid; each page has its latest of each tab in a state.

    Stop asks the run to end and the run ends itself. (Gradio's own way, to cancel its event, once
    left a page waiting for a Continue pressed at once, and once without Stop when a grid was drawn
    again at once: what belongs to the end of the first may reach the second.)
    """

    stopped: bool = False
    erasure: Erasure | None = None  # what this run has left so far, until its end is told

    @classmethod
    def among(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Turn:
        """The one that a call was given; a new one, which nobody stops, if there is none."""
        return next((own for own in (*args, *kwargs.values()) if isinstance(own, cls)), cls())

    def of(self, stream: Iterator[S]) -> Iterator[S]:
        """The stream up to Stop."""
        if self.stopped:
            return
        for shown in stream:
            if self.stopped:
                return
            if isinstance(left := getattr(shown, "erasure", None), Erasure):
                self.erasure = left
            yield shown


def busy(**_: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The buttons Erase, Stop, Continue, Reset and Download while a run goes on, and its turn."""
    off, on = gr.Button(interactive=False), gr.Button(interactive=True)
    return off, on, off, off, gr.DownloadButton(value=None, interactive=False), Turn()


def halt(turn: Turn) -> gr.Button:
    """Stop: ask the run to end at its next step, which may be seconds away; once is enough."""
    turn.stopped = True
    return gr.Button(interactive=False)


def idle(erasure: Erasure | None, paused: object | None) -> tuple[Any, ...]:
    """The same buttons when nothing runs."""
    on, off = gr.Button(interactive=True), gr.Button(interactive=False)
    more, clear = (gr.Button(interactive=paused is not None), gr.Button(interactive=erasure is not None))
    return on, off, more, clear, gr.DownloadButton(interactive=erasure is not None)
