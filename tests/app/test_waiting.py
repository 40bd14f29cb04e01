"""The lines of erasing runs and grids: first come, first served, and Stop reaches who waits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ui.erase.run_record import RunMoment
from ui.server import waiting
from ui.server.stream import Job, halt


@pytest.fixture(autouse=True)
def one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PLACES", 1)
    monkeypatch.setattr(waiting, "POLL", 0.0)


def run(name: str, job: Job | None = None) -> Iterator[RunMoment]:
    for i in range(3):
        yield RunMoment(f"{name}{i}")


def in_line(name: str, job: Job | None = None, what: str = "run") -> Iterator[Any]:
    stream = waiting.in_line(run, what, outputs=len(RunMoment()))(name, job=job)
    assert next(stream) == list(RunMoment())  # the page stays as it is
    return stream


def status(stream: Iterator[Any]) -> str:
    text, *rest = next(stream)
    assert rest == list(RunMoment())[1:]
    return text


def test_a_run_begins_when_the_one_before_it_ends():
    first, second = in_line("a"), in_line("b")
    assert status(first) == "a0"
    assert "another run" in status(second)
    third = in_line("c")
    assert "2 other runs" in status(third)
    assert [shown.status for shown in first] == ["a1", "a2"]
    assert status(second) == "b0" and "another run" in status(third)
    second.close()  # a closed stream hands its place on
    assert [shown.status for shown in third] == ["c0", "c1", "c2"]
    assert len(waiting.LINES["run"]) == 0


def test_stop_takes_a_run_out_of_the_line():
    first, job = in_line("a"), Job()
    status(first)
    waits = in_line("b", job)
    assert "Waiting" in status(waits)
    halt(job)
    assert list(waits) == [] and len(waiting.LINES["run"]) == 1
    first.close()


def test_a_grid_does_not_wait_for_runs():
    first, grid, another = in_line("a"), in_line("b", what="grid"), in_line("c", what="grid")
    assert status(first) == "a0" and status(grid) == "b0"
    assert "another grid" in status(another)
    for stream in (first, grid, another):
        stream.close()


def test_what_was_stopped_before_it_came_does_not_begin():
    assert list(in_line("a", Job(stopped=True))) == []
