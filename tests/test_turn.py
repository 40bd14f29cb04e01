"""Whose buttons they are: the end of a stopped run must not touch those of the next one."""

from __future__ import annotations

import pytest

from ui import turn as turns
from ui.live import SKIP, Shown
from ui.turn import Turn


def moments(last: Exception | None = None):
    yield Shown("one")
    if last:
        raise last
    yield Shown("two")


def test_a_run_that_ends_or_fails_frees_its_buttons():
    ended, failed = Turn(), Turn()
    assert [s.status for s in ended.of(moments())] == ["one", "two"] and ended.over
    with pytest.raises(ValueError, match="why"):
        list(failed.of(moments(ValueError("why"))))
    assert failed.over
    go, halt, *_ = turns.ended(ended, None, None)
    assert go.interactive and not halt.interactive


def test_a_stopped_run_leaves_the_buttons_to_stop():
    turn = Turn()
    stream = turn.of(moments())
    next(stream)
    stream.close()
    assert not turn.over and turns.ended(turn, None, None) == (SKIP,) * 5


def test_every_press_has_a_turn_of_its_own():
    first, second = turns.busy()[-1], turns.busy()[-1]
    assert first is not second and not second.over
