"""Stop: the run ends at its next step, and says what it leaves."""

from __future__ import annotations

import gradio as gr

from esd_core import Erasure
from ui.server.stop import Turn, busy, halt
from ui.server.stream import Shown


def test_a_stopped_run_ends_at_its_next_step():
    turn, made = Turn(), []

    def steps():
        for i in range(9):
            made.append(i)
            yield Shown(i)

    stream = turn.of(steps())
    assert next(stream) == Shown(0)
    pressed = halt(turn)
    assert isinstance(pressed, gr.Button) and not pressed.interactive
    assert list(stream) == [] and made == [0, 1]


def test_a_run_that_nobody_stops_goes_to_its_end():
    turn, erasure = Turn(), Erasure({}, "")
    moments = [Shown("a"), Shown("b", erasure=erasure), Shown("c")]
    assert list(turn.of(iter(moments))) == moments
    assert turn.erasure is erasure


def test_every_press_has_a_turn_of_its_own():
    first, second = busy()[-1], busy()[-1]
    halt(first)
    assert first.stopped and not second.stopped
