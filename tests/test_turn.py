"""Stop: the run ends at its next step, and says what it leaves."""

from __future__ import annotations

import gradio as gr

from ui.turn import Turn, busy, halt


def test_a_stopped_run_ends_at_its_next_step():
    turn, made = Turn(), []

    def steps():
        for i in range(9):
            made.append(i)
            yield i

    stream = turn.of(steps())
    assert next(stream) == 0
    pressed = halt(turn)
    assert isinstance(pressed, gr.Button) and not pressed.interactive
    assert list(stream) == [] and made == [0, 1]


def test_a_run_that_nobody_stops_goes_to_its_end():
    assert list(Turn().of(iter("abc"))) == ["a", "b", "c"]


def test_every_press_has_a_turn_of_its_own():
    first, second = busy()[-1], busy()[-1]
    halt(first)
    assert first.stopped and not second.stopped
