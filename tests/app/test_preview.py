"""What a run shows on its way, and what the app does before the first click."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from esd_core import DiffusionModel, preset
from esd_core.erasure import shared_copy
from esd_core.study.watched_prompts import to_watch
from ui.erase import curves, pictures
from ui.erase import run as live
from ui.erase.run_record import RunMoment
from ui.server import memory
from ui.server.stream import SKIP

PROMPTS = ["a cat", "a dog"]


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.FROZEN.clear()
    monkeypatch.setattr(live, "EXAMPLES", live.KeptExamples(runs=pictures.RUNS))


def drawn(model: DiffusionModel, unet: Any, listed: list[str] = PROMPTS) -> tuple[list, Any]:
    """What a drawing shows on its way, and its pictures."""
    seen, drawing = [], pictures.draw(model, unet, listed, (1, 2), int)
    while True:
        try:
            seen.append(next(drawing))
        except StopIteration as end:
            return seen, end.value


def test_the_frozen_models_pictures_are_drawn_once(tiny: DiffusionModel):
    seen, first = drawn(tiny, tiny.unet)
    assert seen == [*range(1, pictures.STEPS + 1)] and first.shape[:2] == (2, 2)
    again, same = drawn(tiny, tiny.unet)
    assert again == [] and same is first is pictures.known(tiny, PROMPTS, (1, 2))


def test_an_edited_models_pictures_are_drawn_anew_and_not_kept(tiny: DiffusionModel):
    edited = shared_copy(tiny.unet, [])
    _, first = drawn(tiny, edited)
    seen, second = drawn(tiny, edited)
    assert len(seen) == pictures.STEPS and torch.equal(first, second)
    assert pictures.known(tiny, PROMPTS, (1, 2)) is None


def test_another_models_pictures_are_not_taken_for_this_ones(tiny, tiny_v):
    drawn(tiny, tiny.unet)
    assert pictures.known(tiny_v, PROMPTS, (1, 2)) is None


def test_only_the_last_runs_are_remembered(tiny: DiffusionModel, monkeypatch):
    monkeypatch.setattr(pictures, "RUNS", 2)
    for prompt in ("a cat", "a dog"):
        drawn(tiny, tiny.unet, [prompt])
    drawn(tiny, tiny.unet, ["a cat"])  # asked for again: the dog is now the oldest
    drawn(tiny, tiny.unet, ["a rocket"])
    known = [p for p in ("a cat", "a dog", "a rocket") if pictures.known(tiny, [p], (1, 2)) is not None]
    assert known == ["a cat", "a rocket"]


def told(moments: list[RunMoment]) -> str:
    return " ".join(str(moment.status) for moment in moments if moment.status is not SKIP)


def run(model: DiffusionModel, config: Any) -> list[RunMoment]:
    return list(live.run(model, config, to_watch(model, "a cat")))


def test_a_prepared_run_waits_for_no_picture_and_no_teacher(tiny: DiffusionModel):
    config = preset("live", "a cat", iterations=2, batch_size=2, trajectories=3, seed=0, train_method="esd-x")
    fresh = run(tiny, config)
    assert "Before: drawing" in told(fresh) and "Collecting examples from the frozen model ·" in told(fresh)
    pictures.FROZEN.clear()
    live.EXAMPLES = live.KeptExamples(runs=pictures.RUNS)
    before = live.prepare(tiny, config, to_watch(tiny, "a cat"))
    assert before.shape[:2] == (len(to_watch(tiny, "a cat")), 2)
    ready = run(tiny, config)
    assert "Before: drawing" not in told(ready) and "frozen model ·" not in told(ready)
    last = [[m.erasure for m in moments if m.erasure is not SKIP][-1] for moments in (fresh, ready)]
    for name, tensor in last[0].tensors.items():
        assert torch.equal(tensor, last[1].tensors[name])


def test_another_strength_starts_without_the_teacher(tiny: DiffusionModel):
    config = preset("live", "a cat", iterations=1, batch_size=2, trajectories=3, train_method="esd-x")
    run(tiny, config)
    assert "frozen model ·" not in told(run(tiny, replace(config, eta=2.0)))


def test_examples_too_large_to_keep_are_collected_again(tiny: DiffusionModel, monkeypatch):
    monkeypatch.setattr(memory, "EXAMPLES", 100)
    config = preset("live", "a cat", iterations=1, batch_size=2, trajectories=3, train_method="esd-x")
    run(tiny, config)
    assert "frozen model ·" in told(run(tiny, config))


def test_the_empty_prompt_is_watched_last(tiny: DiffusionModel):
    assert curves.with_empty(to_watch(tiny, "a cat"))[-1].prompt == ""
