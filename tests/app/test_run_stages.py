"""The stages a run leaves behind: few, early, bounded, and the visitor's own."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from esd_core import DiffusionModel, EraseConfig, Erasure, erase
from ui.shared import run_stages
from ui.shared.run_stages import StagedErasure, StageKeeper


def walked(model: DiffusionModel, iterations: int, stop_after: int | None = None) -> StagedErasure:
    kept = StageKeeper(iterations)
    for step in erase(model, EraseConfig("a cat", iterations=iterations)):
        kept.note(step)
        if step.iteration == (iterations if stop_after is None else stop_after):
            return kept.end(step.erasure)
    raise AssertionError


def reached(erasure: Erasure) -> list[int]:
    return [run_stages.updates(stage) for stage in run_stages.stages(erasure)]


def test_stages_lie_close_together_at_the_beginning(tiny: DiffusionModel):
    assert reached(walked(tiny, 16)) == [0, 1, 2, 4, 8, 16]
    assert reached(walked(tiny, 2)) == [0, 1, 2]
    assert reached(walked(tiny, 16, stop_after=5)) == [0, 1, 2, 4, 5]
    assert reached(walked(tiny, 0)) == [0, 0]


def test_a_stage_is_the_model_as_it_was_then(tiny: DiffusionModel):
    whole, short = walked(tiny, 8), walked(tiny, 8, stop_after=2)
    (then,) = (s for s in whole.earlier if run_stages.updates(s) == 2)
    assert all(torch.equal(then.tensors[n], t) for n, t in short.tensors.items())
    assert not all(torch.equal(whole.tensors[n], t) for n, t in short.tensors.items())


def test_more_updates_make_room_for_later_stages(tiny: DiffusionModel):
    kept, steps = StageKeeper(16), {}
    for step in erase(tiny, EraseConfig("a cat", iterations=32)):
        steps[step.iteration] = step.erasure
        if step.iteration == 16:
            kept.note(step)
            kept.extend(32, step.erasure)
            assert [run_stages.updates(e) for e in kept.earlier] == [1, 2, 4, 16]  # marks 1, 2, 6, 13
        else:
            kept.note(step)
    assert reached(kept.end(steps[32])) == [0, 1, 2, 4, 16, 32]
    kept.extend(32, steps[32])  # to finish a stopped run changes nothing
    assert reached(kept.end(steps[32])) == [0, 1, 2, 4, 16, 32]
    kept.extend(1000, steps[32])
    assert len(kept.earlier) <= run_stages.STAGES and max(kept.marks) > 32


def test_what_is_kept_is_still_an_erasure(tiny: DiffusionModel, tmp_path):
    kept = walked(tiny, 4)
    loaded = Erasure.load(kept.save(tmp_path / "kept.safetensors"))
    assert all(torch.equal(loaded.tensors[n], t) for n, t in kept.tensors.items())
    assert run_stages.stages(loaded) == [None, loaded] and run_stages.stages(None) == [None]


@pytest.mark.parametrize("iterations", [1, 3, 40, 1000, 100_000])
def test_stages_are_few_whatever_the_length_of_a_run(iterations: int):
    chosen = sorted(run_stages.marks(iterations, 1))
    assert len(chosen) <= run_stages.STAGES and chosen[0] == 1 and chosen[-1] <= iterations
    assert all(a < b for a, b in pairwise(chosen))


def test_large_stages_are_fewer_and_huge_ones_are_not_kept():
    assert len(run_stages.marks(16, run_stages.MEMORY // 2)) == 2
    assert run_stages.marks(16, run_stages.MEMORY + 1) == set()
