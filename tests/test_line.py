"""The line of erasing runs: first come, first served, and Stop reaches who waits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ui import line
from ui.moment import Shown
from ui.turn import Turn, halt


@pytest.fixture(autouse=True)
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "PLACES", 1)
    monkeypatch.setattr(line, "LOOK", 0.0)


def run(name: str, turn: Turn | None = None) -> Iterator[Shown]:
    for i in range(3):
        yield Shown(f"{name}{i}")


def test_a_run_begins_when_the_one_before_it_ends():
    first, second = line.in_line(run)("a"), line.in_line(run)("b")
    assert next(first).status == "a0"
    assert "it begins when another run ends" in next(second).status
    third = line.in_line(run)("c")
    assert "it begins when 2 other runs end" in next(third).status
    assert [shown.status for shown in first] == ["a1", "a2"]
    assert next(second).status == "b0" and "another run" in next(third).status
    second.close()  # a closed stream hands its place on
    assert [shown.status for shown in third] == ["c0", "c1", "c2"]
    assert line._line == []


def test_stop_takes_a_run_out_of_the_line():
    first, turn = line.in_line(run)("a"), Turn()
    next(first)
    waits = line.in_line(run)("b", turn=turn)
    assert "Waiting" in next(waits).status
    halt(turn)
    assert list(waits) == [] and len(line._line) == 1
    first.close()
