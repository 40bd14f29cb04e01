"""Stop: what goes on for long ends at its next step when it is asked to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

import gradio as gr

from esd_core import Erasure

S = TypeVar("S")


@dataclass
class Job:
    """One press of Erase, Continue or Draw grid; each page has its latest of each tab in a state.

    Stop asks the job to end and the job ends itself. (Gradio's own way, to cancel its event, once
    left a page waiting for a Continue pressed at once, and once without Stop when a grid was drawn
    again at once: what belongs to the end of the first may reach the second.)
    """

    stopped: bool = False
    erasure: Erasure | None = None  # what a run has left so far, until its end is told

    @classmethod
    def among(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Job:
        """The one that a call was given; a new one, which nobody stops, if there is none."""
        return next((own for own in (*args, *kwargs.values()) if isinstance(own, cls)), cls())

    def until_stop(self, moments: Iterator[S]) -> Iterator[S]:
        """The moments up to Stop; the erasure of the last one that has any is kept."""
        return iter(()) if self.stopped else takewhile(self._goes_on, moments)

    def _goes_on(self, moment: object) -> bool:
        if not self.stopped and isinstance(left := getattr(moment, "erasure", None), Erasure):
            self.erasure = left
        return not self.stopped


def halt(job: Job) -> gr.Button:
    """Stop: ask the job to end at its next step, which may be seconds away; once is enough."""
    job.stopped = True
    return gr.Button(interactive=False)
