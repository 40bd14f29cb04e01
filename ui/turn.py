"""Whose turn it is: the buttons of the Erase tab while a run goes on, and when it is over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import gradio as gr

from esd_core import Erasure

T = TypeVar("T")


@dataclass
class Turn:
    """One press of Erase or Continue, until its run ended; each page has its latest in a state.

    A stopped run's events may arrive seconds after Stop, when the next one is under way already:
    they must not touch its buttons.
    """

    over: bool = False

    def of(self, stream: Iterator[T]) -> Iterator[T]:
        """The stream, whose end or failure is noted; Stop closes it, and speaks for itself."""
        try:
            yield from stream
        except GeneratorExit:
            raise
        except BaseException:
            self.over = True
            raise
        self.over = True


def busy(**_: Any) -> tuple[Any, ...]:  # noqa: ANN401
    """The buttons Erase, Stop, Continue, Reset and Download while a run goes on, and its turn."""
    off, on = gr.Button(interactive=False), gr.Button(interactive=True)
    return off, on, off, off, gr.DownloadButton(value=None, interactive=False), Turn()


def idle(erasure: Erasure | None, paused: object | None) -> tuple[Any, ...]:
    """The same buttons when nothing runs."""
    on, off = gr.Button(interactive=True), gr.Button(interactive=False)
    more, clear = (
        gr.Button(interactive=paused is not None),
        gr.Button(interactive=erasure is not None),
    )
    return on, off, more, clear, gr.DownloadButton(interactive=erasure is not None)


def ended(turn: Turn, erasure: Erasure | None, paused: object | None) -> Any:  # noqa: ANN401
    """The buttons after a run; nothing if another is under way, or Stop has set them."""
    return idle(erasure, paused) if turn.over else (gr.skip(),) * 5
