"""Stop: the run ends at its next step, and says what it leaves."""

from __future__ import annotations

import gradio as gr

from esd_core import Erasure
from ui.erase.run_record import RunMoment
from ui.erase.tab import busy
from ui.server.stream import Job, halt


def test_a_stopped_run_ends_at_its_next_step():
    job, made = Job(), []

    def steps():
        for i in range(9):
            made.append(i)
            yield RunMoment(i)

    stream = job.until_stop(steps())
    assert next(stream) == RunMoment(0)
    pressed = halt(job)
    assert isinstance(pressed, gr.Button) and not pressed.interactive
    assert list(stream) == [] and made == [0, 1]


def test_a_run_that_nobody_stops_goes_to_its_end():
    job, erasure = Job(), Erasure({}, "")
    moments = [RunMoment("a"), RunMoment("b", erasure=erasure), RunMoment("c")]
    assert list(job.until_stop(iter(moments))) == moments
    assert job.erasure is erasure


def test_every_press_has_a_job_of_its_own():
    first, second = busy()[-1], busy()[-1]
    halt(first)
    assert first.stopped and not second.stopped
