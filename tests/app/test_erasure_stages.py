"""The stages a run leaves behind: few, early, bounded, and the visitor's own."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from esd_core import DiffusionModel, EraseConfig, Erasure, erase
from ui.shared import erasure_stages, noisy_latent
from ui.shared.erasure_stages import StagedErasure, StageKeeper


def walked(model: DiffusionModel, iterations: int, stop_after: int | None = None) -> StagedErasure:
    kept = StageKeeper()
    for step in erase(model, EraseConfig("a cat", iterations=iterations)):
        kept.note(step)
        if step.iteration == (iterations if stop_after is None else stop_after):
            return kept.end(step.erasure)
    raise AssertionError


def reached(erasure: Erasure) -> list[int]:
    return [erasure_stages.updates(stage) for stage in erasure_stages.stages(erasure)]


def test_stages_lie_close_together_at_the_beginning(tiny: DiffusionModel):
    assert reached(walked(tiny, 16)) == [0, 1, 2, 4, 8, 16]
    assert reached(walked(tiny, 2)) == [0, 1, 2]
    assert reached(walked(tiny, 16, stop_after=5)) == [0, 1, 2, 4, 5]
    assert reached(walked(tiny, 0)) == [0, 0]


def test_what_was_solved_for_is_a_stage(tiny: DiffusionModel):
    kept, config = StageKeeper(), EraseConfig("a cat", train_method="esd-lora", edit=0.7, iterations=4)
    for step in erase(tiny, config):
        kept.note(step)
    end = kept.end(step.erasure)
    assert reached(end) == [0, 0, 1, 2, 4] and noisy_latent.updates(end.earlier[0]) == "an edit"


def test_a_stage_is_the_model_as_it_was_then(tiny: DiffusionModel):
    whole, short = walked(tiny, 8), walked(tiny, 8, stop_after=2)
    (then,) = (s for s in whole.earlier if erasure_stages.updates(s) == 2)
    assert all(torch.equal(then.tensors[n], t) for n, t in short.tensors.items())
    assert not all(torch.equal(whole.tensors[n], t) for n, t in short.tensors.items())


def test_of_too_many_stages_every_other_one_stays(tiny: DiffusionModel):
    assert reached(walked(tiny, 33)) == [0, 1, 4, 16, 33]


def test_what_is_kept_is_still_an_erasure(tiny: DiffusionModel, tmp_path):
    kept = walked(tiny, 4)
    loaded = Erasure.load(kept.save(tmp_path / "kept.safetensors"))
    assert all(torch.equal(loaded.tensors[n], t) for n, t in kept.tensors.items())
    assert erasure_stages.stages(loaded) == [None, loaded] and erasure_stages.stages(None) == [None]


@pytest.mark.parametrize("iterations", [1, 3, 40, 1000])
def test_stages_are_few_whatever_the_length_of_a_run(iterations: int):
    kept = StageKeeper()
    for i in range(1, iterations + 1):
        kept.note(step(i))
        marks = [erasure_stages.updates(stage) for stage in kept.earlier]
        assert 1 <= len(marks) <= erasure_stages.STAGES and marks[0] == 1
        assert all(a < b for a, b in pairwise(marks))


def test_large_stages_are_fewer_and_huge_ones_are_not_kept(monkeypatch):
    for room, marks in ((8, [1, 16]), (4, [1]), (3, [])):
        monkeypatch.setattr(erasure_stages, "MEMORY", room)
        kept = StageKeeper()
        for i in range(1, 17):
            kept.note(step(i))
        assert [erasure_stages.updates(stage) for stage in kept.earlier] == marks


def step(i: int) -> Any:
    """An update that changed one number, of four bytes."""
    erasure = Erasure({"w": torch.zeros(1)}, "", {"iterations_done": i})
    return SimpleNamespace(iteration=i, erasure=erasure, run=SimpleNamespace(config=EraseConfig("a cat")))
