"""Stopping and going on is the same as never having stopped, bit for bit."""

from dataclasses import replace

import pytest
import torch

from esd_core.config import EraseConfig, Target, preset
from esd_core.erasing import erase
from esd_core.run_state import Checkpoint

SHORT = dict(iterations=7, num_inference_steps=3, trajectories=2, batch_size=2)
TWO = [Target("a cat", weight=2.0), Target("red", "a red dog")]
CONFIGS = {
    "placed": preset("live", "a cat", **SHORT),
    "live": preset("live", "a cat", **SHORT, seed=3, train_method="esd-x"),
    "in little memory": EraseConfig("a cat", micro_batch_size=1, gradient_checkpointing=True, **SHORT),
    "two concepts, redrawn": EraseConfig(TWO, redraw_every=2, x_t_source="edited", preserve=1.0, **SHORT),
    "paper": preset("paper", "a cat", iterations=7, num_inference_steps=4),
    "official": preset("official-2025", TWO, iterations=7, num_inference_steps=3),
}


def steps(model, config, **options):
    """What every step of a run shows, and the last erasure."""
    seen = {}
    for step in erase(model, config, **options):
        seen[step.iteration] = (step.loss, step.examples_seen, step.held_out_error())
        last = step.erasure
    return seen, last


def stopped(model, config, after):
    for step in erase(model, config):
        if step.iteration == after:
            return step.checkpoint()
    raise AssertionError


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_resumed_run_ends_as_an_uninterrupted_one(tiny, tmp_path, config):
    whole, expected = steps(tiny, config)
    rests = {s.iteration: s.checkpoint() for s in erase(tiny, config) if s.iteration in (0, 1, 4, 7)}
    for after, rest in rests.items():
        if after != 1:  # at rest in a file
            rest = Checkpoint.load(rest.save(tmp_path / "run.safetensors"))
        seen, erasure = steps(tiny, config, resume=rest)
        assert list(seen) == list(range(after, 8))
        assert all(seen[i] == whole[i] for i in range(after + 1, 8))
        assert seen[after][1:] == whole[after][1:]
        assert erasure.hash == expected.hash


def test_a_checkpoint_is_not_used_up(tiny):
    rest = stopped(tiny, CONFIGS["live"], 3)
    before = (rest.erasure.hash, {i: m["exp_avg"].clone() for i, m in rest.optimizer["state"].items()})
    first, second = (steps(tiny, CONFIGS["live"], resume=rest)[1] for _ in range(2))
    assert first.hash == second.hash
    assert type(rest.erasure)(rest.erasure.tensors, "").hash == before[0]
    assert all(torch.equal(rest.optimizer["state"][i]["exp_avg"], m) for i, m in before[1].items())


def test_a_finished_run_may_be_made_longer(tiny):
    config = CONFIGS["live"]
    rest = stopped(tiny, replace(config, iterations=3), 3)
    assert steps(tiny, config, resume=rest)[1].hash == steps(tiny, config)[1].hash


def test_a_checkpoint_of_another_run_or_model_is_refused(tiny):
    rest = stopped(tiny, CONFIGS["live"], 3)
    with pytest.raises(ValueError, match="iterations"):
        next(erase(tiny, replace(CONFIGS["live"], eta=2.0), resume=rest))
    with pytest.raises(ValueError, match="3 updates"):
        next(erase(tiny, replace(CONFIGS["live"], iterations=2), resume=rest))
    other = tiny.with_unet(stopped(tiny, CONFIGS["live"], 3).erasure.apply(tiny))
    with pytest.raises(ValueError, match="made for"):
        next(erase(other, CONFIGS["live"], resume=rest))


def test_a_file_holds_twins_once_and_they_stay_one(tiny, tmp_path):
    rest = stopped(tiny, CONFIGS["live"], 3)
    again = Checkpoint.load(rest.save(tmp_path / "run.safetensors"))
    assert again.examples.train[0].null is again.examples.train[0].centre
    assert again.examples.origin == rest.examples.origin and again.config == rest.config
    assert again.erasure.provenance == rest.erasure.provenance and again.erasure.hash == rest.erasure.hash


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "an erasure", "text"])
def test_what_is_no_checkpoint_is_refused_by_its_name(tiny, tmp_path, damage):
    path, rest = tmp_path / "run.safetensors", stopped(tiny, CONFIGS["live"], 1)
    rest.save(path)
    if damage == "an erasure":
        rest.erasure.save(path)
    elif damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-100], "text": b"hello"}[damage])
    with pytest.raises(ValueError, match="run.safetensors") as refused:
        Checkpoint.load(path)
    assert str(tmp_path) not in str(refused.value)
