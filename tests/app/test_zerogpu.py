"""What ZeroGPU asks of the app: all that crosses to a process with a GPU, and back, is pickled.

The GPU and its process are not here. A decorator in the place of `spaces.GPU` pickles arguments and
results, as it does.
"""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch

from esd_core import DiffusionModel
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import COMPARE, CONCEPTS, cache, compared, erased, fields  # noqa: F401
from tests.conftest import WORDS
from ui.attention import tab as attention_tab
from ui.compare import grid
from ui.compare import tab as compare_tab
from ui.erase import tab as erase_tab
from ui.scores import tab as scores_tab
from ui.server import processor, stream, zerogpu
from ui.server.stream import Job, halt


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


def across(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


def lend(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Call it with copies, and copy what it gives."""

    @functools.wraps(fn)
    def whole(*args: Any, **kwargs: Any) -> Any:
        return across(fn(*across(args), **across(kwargs)))

    @functools.wraps(fn)
    def stream(*args: Any, **kwargs: Any) -> Any:
        yield from map(across, fn(*across(args), **across(kwargs)))

    return stream if inspect.isgeneratorfunction(fn) else whole


def test_only_a_space_that_says_so_lends():
    assert not zerogpu.on({}) and not zerogpu.on({"SPACES_ZERO_GPU": "0"})
    assert zerogpu.on({"SPACES_ZERO_GPU": "true"})


def test_a_run_comes_back_whole(model: DiffusionModel):
    expected = list(erase_tab.erase(model, **fields(seed=3)))[-1].erasure
    far = zerogpu.lent(partial(erase_tab.erase, model), lend)
    job = Job()
    *_, paused, ending = (shown for shown in far(job=job, **fields(seed=3)) if shown.erasure != stream.SKIP)
    assert ending.erasure.hash == job.erasure.hash == expected.hash
    on = zerogpu.lent(partial(erase_tab.go_on, model), lend)
    assert list(on(paused.paused, 4, Job()))[-1].erasure.provenance["iterations_done"] == 10


def test_stop_reaches_it(model: DiffusionModel):
    job, far = Job(), zerogpu.lent(partial(erase_tab.erase, model), lend)
    for _ in far(job=job, **fields(iterations=10_000)):
        if job.erasure is not None:
            halt(job)
    assert 0 < job.erasure.provenance["iterations_done"] < 10_000


def test_looks_come_back_too(model: DiffusionModel):
    cat = erased(model, iterations=2)
    *_, shown = zerogpu.lent(partial(compare_tab.drawing, model), lend)(cat, **COMPARE)
    assert shown.table == compared(model, cat, **COMPARE).table
    *_, numbers = zerogpu.lent(partial(scores_tab.draw, model), lend)(cat, "cat", 1, 700, 1, 4, 9)
    assert numbers["updates"] == 2
    zerogpu.lent(partial(attention_tab.draw, model), lend)(cat, "cat", 1, 700, "mean of all layers")
    fixed = {"strength": 1, "guidance_scale": 3, "steps": 2, "scheduler": "euler", "seed": 4}
    knobs = dict(across="strength", columns="0, 1", down="prompt", rows="a cat")
    drawn = zerogpu.lent(partial(grid.draw, model), lend)(cat, prompt="a dog", **fixed, **knobs)
    assert "2 of 2 pictures" in list(drawn)[-1].status


def test_there_nobody_stands_in_our_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPACES_ZERO_GPU", "1")
    monkeypatch.setattr(processor.PROCESSOR, "submit", None)
    assert processor.compute(lambda: torch.ones(1).item()) == 1
