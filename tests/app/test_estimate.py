"""What a run is said to take: arithmetic by hand on made-up machines, then a real one."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from esd_core import DiffusionModel, EraseConfig, erase, preset
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import CONCEPTS, fields
from tests.conftest import WORDS
from ui.erase import estimate
from ui.shared import timing
from ui.shared.timing import CallTime, duration

CONFIG = EraseConfig("a cat", num_inference_steps=10, trajectories=7, held_out=1)


def each_call(_: float) -> float:
    """Of a machine on which every call takes a second."""
    return 1.0


def each_example(n: float) -> float:
    """Of one on which every example does."""
    return n


def collecting(model: DiffusionModel, config: EraseConfig, call: CallTime) -> float:
    return estimate.collecting(model, config, call)


def test_collecting_counts_calls_of_the_frozen_model(tiny: DiffusionModel):
    assert collecting(tiny, CONFIG, each_call) == 10
    assert collecting(tiny, replace(CONFIG, preserve=1.0), each_call) == 10 + 6
    often = replace(CONFIG, redraw_every=4, iterations=16)
    assert collecting(tiny, often, each_call) == 40
    one = preset("paper", "a cat", iterations=100)
    assert collecting(tiny, one, each_call) == pytest.approx(100 * (25.5 + 2))


def test_collecting_counts_examples(tiny: DiffusionModel):
    assert collecting(tiny, CONFIG, each_example) == 10 * 16
    held = replace(CONFIG, preserve=1.0, num_inference_steps=4, redraw_every=1, iterations=3)
    assert collecting(tiny, held, each_example) == 3 * 4 * 16 + 4 * 2 * 16  # what holds: once
    many = replace(held, preserve_prompts=[f"{n} dogs" for n in range(20)])
    assert collecting(tiny, many, each_example) == 3 * 4 * 16 + 4 * 2 * 20
    assert collecting(tiny, replace(CONFIG, x_t_source="edited"), each_example) == 160 + 2 * 80


def test_a_style_on_objects_takes_what_the_object_alone_predicts(emoji: DiffusionModel):
    styled = replace(CONFIG, concepts="noto style", from_objects="styles")
    assert collecting(emoji, styled, each_example) == 10 * 16 + 80
    assert collecting(emoji, replace(styled, concepts="a cat"), each_example) == 10 * 16


@pytest.mark.parametrize("method", ["esd-x", "full"])
def test_the_estimate_counts_the_examples_that_a_run_computes(
    tiny: DiffusionModel, method: str, monkeypatch: pytest.MonkeyPatch
):
    computed = {False: 0, True: 0}  # by whether there are gradients

    def count(_: object, args: tuple, named: dict) -> None:
        computed[torch.is_grad_enabled()] += len(args[0] if args else named["sample"])

    config = preset("live", "a cat", train_method=method, preserve_prompts=["a dog"])
    monkeypatch.setattr(timing, "evaluation", lambda _: each_example)
    monkeypatch.setattr(timing, "update", lambda *_: each_example)
    examples, training, drawing = estimate.estimate(tiny, config, [f"{n} cats" for n in range(4)])
    hook = tiny.unet.register_forward_pre_hook(count, with_kwargs=True)  # its copy has it, too
    try:
        for _ in erase(tiny, config):
            pass
    finally:
        hook.remove()
    assert training == computed[True] and examples == pytest.approx(computed[False], rel=0.1)
    assert drawing == 2 * 8 * 2 * 4 * 2 + 4 * 8 * 2 * 4  # before and after, and four frames


def test_a_timing_takes_time(tiny: DiffusionModel):
    for timed in (timing.evaluation(tiny), timing.update(tiny, "esd-x")):
        assert timed(8) > 0


def test_timing_leaves_the_model_as_it_was(tiny: DiffusionModel):
    before = {n: p.clone() for n, p in tiny.unet.named_parameters()}
    timing.update(tiny, "esd-u")
    assert all(p.equal(before[n]) and not p.requires_grad for n, p in tiny.unet.named_parameters())


def test_others_work_is_seen(tiny: DiffusionModel, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "evaluation", lambda _: lambda n: 1e-6)  # as if the machine had been faster
    assert timing.slowdown(tiny) > 10
    monkeypatch.setattr(timing, "evaluation", lambda _: lambda n: 100.0)  # too slow to try again
    assert timing.slowdown(tiny) == 1


def test_the_page_tells_the_cost_of_its_fields(tiny: DiffusionModel):
    model = replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))
    said = estimate.cost(model, **fields(iterations=6))
    assert re.search(r"Takes about \d+ s here.*6 updates \d+ s", said)
    with pytest.raises(ValueError, match="eta"):
        estimate.cost(model, **fields(eta=99))


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (23, "23 s"), (47, "50 s"), (700, "12 min"), (9000, "2.5 h")]
)
def test_durations_are_rounded_to_what_one_can_believe(seconds: float, text: str):
    assert duration(seconds) == text
