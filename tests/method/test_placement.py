"""Placed training: the directions against their equations, the runs against what every run must do."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from esd_core import (
    Checkpoint,
    EraseConfig,
    Erasure,
    Target,
    combine,
    erase,
    generate,
    load_model,
    placement,
    sample,
)
from esd_core.prompts import naming, staying

CONFIG = EraseConfig(
    "a cat",
    train_method="esd-lora",
    learning_rate=0.1,
    iterations=4,
    batch_size=2,
    trajectories=2,
    num_inference_steps=3,
)
EDIT = replace(CONFIG, iterations=0, held_out=0, edit=1.0)


@pytest.fixture(scope="module")
def emoji():
    return load_model("emoji")


def last(model, config, **options):
    *_, step = erase(model, config, **options)
    return step


@pytest.fixture
def states():
    generator = torch.Generator().manual_seed(0)
    kept = torch.randn(200, 6, generator=generator, dtype=torch.float64) * torch.arange(1, 7)
    return torch.randn(5, 6, generator=generator, dtype=torch.float64), kept.T @ kept / len(kept)


def test_the_direction_of_one_state_is_romes(states):
    one, kept = states[0][:1], states[1]
    row = placement.directions(one, kept, 1, 0.01)[0]
    rome = torch.linalg.solve(kept + 0.01 * torch.eye(6, dtype=kept.dtype), one[0])
    assert torch.allclose(row / row.norm() * torch.sign(row @ rome), rome / rome.norm())


def test_directions_have_mean_square_one_and_do_not_repeat_each_other(states):
    rows = placement.directions(*states, 3, 0.01)
    seen = states[0] @ rows.T
    assert torch.allclose(seen.T @ seen / len(seen), torch.eye(3, dtype=seen.dtype))


def test_no_other_direction_stands_out_more(states):
    """The first maximises the mean square over the concept's states per that over what stays."""
    concept, kept = states
    moment, stays = concept.T @ concept / 5, kept + 0.01 * torch.eye(6, dtype=kept.dtype)

    def ratio(row):
        return float(row @ moment @ row / (row @ stays @ row))

    best = ratio(placement.directions(concept, kept, 1, 0.01)[0])
    others = torch.randn(2000, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert best >= max(map(ratio, others))


def test_more_directions_than_there_are_states_are_refused(states):
    with pytest.raises(ValueError, match="rank is 6"):
        placement.directions(*states, 6, 0.01)


def test_the_edit_solves_its_least_squares(tiny):
    rows, readings = placement.solve(tiny, replace(EDIT, rank=2))
    kept = placement.covariance(tiny, EDIT)
    states, targets = placement.read_as(tiny, EDIT.concepts[0], EDIT)
    readings = readings.clone().requires_grad_()
    missed = targets - states - states @ rows.T @ readings.T
    spread = torch.trace(readings @ rows @ kept @ rows.T @ readings.T)
    (missed.square().sum() + len(states) * spread).backward()
    assert readings.grad.abs().max() < 1e-8 * len(states) * readings.abs().max()


def test_with_nothing_to_spare_and_full_rank_the_edit_reads_the_concept_as_its_target(tiny, monkeypatch):
    """Why an edit erases: the concept's keys and values become those of e_null - eta (e_concept - e_null)."""
    monkeypatch.setattr(placement, "covariance", lambda *_: torch.zeros(16, 16, dtype=torch.float64))
    states, targets = placement.read_as(tiny, EDIT.concepts[0], EDIT)
    null = tiny.encode([""]).double()[0]
    assert torch.allclose(targets, 2 * null - states)  # eta 1
    rank = int(torch.linalg.matrix_rank(states))
    unet = last(tiny, replace(EDIT, rank=rank, lam=1e-6)).unet
    for name, frozen in tiny.unet.named_parameters():
        if ".attn2.to_v.weight" in name:
            layer = unet.get_submodule(name.removesuffix(".weight"))
            assert torch.allclose(layer(states.float()), targets.float() @ frozen.T, atol=1e-3)


def test_a_context_is_what_changes_and_stays_where_eta_is_0(tiny):
    target = Target("red", erase_from="a cat")
    states, targets = placement.read_as(tiny, target, replace(EDIT, eta=0.5))
    red, null, cat = tiny.encode(["red", "", "a cat"]).double()
    assert torch.equal(states, cat)
    assert torch.allclose(targets, cat - 0.5 * (red - null))


def test_what_names_the_erased_is_not_kept(emoji):
    for concept, count in {"a cat": 7, "noto style": 206, "a red background": 1}.items():
        config = replace(CONFIG, concepts=concept)
        named = naming(emoji, config, staying(emoji))
        assert len(named) == count and concept in named
    assert "a hot dog" not in naming(emoji, replace(CONFIG, concepts="a dog"), staying(emoji))


def test_the_covariance_is_the_mean_over_what_stays(tiny, emoji):
    config = replace(CONFIG, preserve_prompts=("a dog", "rocket"))
    kept, near = ([p for p in staying(tiny) if "cat" not in p.split()], ["a dog", "rocket"])
    every, close = (placement.states_of(tiny, texts) for texts in (kept, near))
    expected = 0.8 * every.T @ every / len(every) + 0.2 * close.T @ close / len(close)
    assert torch.allclose(placement.covariance(tiny, config), expected)


def test_what_is_kept_of_a_model_is_the_same_from_its_file(tiny, monkeypatch, tmp_path):
    monkeypatch.setattr(placement, "HF_HOME", str(tmp_path))
    found = [placement.covariance(tiny, CONFIG) for _ in range(2)]
    assert torch.equal(*found) and len(list((tmp_path / "esd-lab").iterdir())) == 1
    half = replace(tiny, text_encoder=deepcopy(tiny.text_encoder).bfloat16())  # its states are others
    assert not torch.equal(placement.covariance(half, CONFIG), found[0])


def test_a_run_begins_at_the_frozen_model_and_learns(tiny):
    steps = erase(tiny, CONFIG)
    first = next(steps)
    assert first.held_out_error() == pytest.approx(1)
    frozen = [s.output_guided for s in sample(tiny, "a cat", seeds=[3])]
    edited = [s.output_guided for s in sample(tiny, "a cat", seeds=[3], unet=first.unet)]
    assert all(map(torch.equal, frozen, edited))
    *_, step = steps
    assert step.held_out_error() < 1


def test_the_file_draws_what_the_run_drew_and_interpolates(tiny, tmp_path):
    step = last(tiny, replace(CONFIG, edit=0.5, rank=2))
    kept = Erasure.load(step.erasure.save(tmp_path / "cat.safetensors"))
    assert kept.is_lora and kept.hash == step.erasure.hash
    drawn = generate(tiny, "a cat", seeds=[0], unet=step.unet)
    assert torch.allclose(drawn, generate(tiny, "a cat", seeds=[0], unet=kept.apply(tiny)), atol=1e-5)
    for name in kept.changes:
        base, whole = tiny.unet.get_parameter(name), kept.apply(tiny).get_parameter(name)
        half = kept.apply(tiny, 0.5).get_parameter(name)
        assert torch.allclose(half - base, (whole - base) / 2, atol=1e-6)
        assert torch.linalg.matrix_rank((whole - base).double(), rtol=1e-4) <= 2


def test_a_lora_and_whole_matrices_add_up(tiny):
    one = last(tiny, EDIT).erasure
    two = last(tiny, replace(EDIT, edit=0.0, iterations=2, train_method="esd-x")).erasure
    both = combine(tiny, [one, two], [1.0, 0.5])
    for name in one.changes:
        base = tiny.unet.get_parameter(name)
        expected = one.value(name, base) + two.value(name, base, 0.5) - base
        assert torch.allclose(both.get_parameter(name), expected, atol=1e-6)


def test_a_checkpoint_goes_on_bit_for_bit(tiny, tmp_path):
    config = replace(CONFIG, edit=0.5)
    for step in erase(tiny, config):
        if step.iteration == 2:
            step.checkpoint().save(tmp_path / "rest.safetensors")
    again = last(tiny, config, resume=Checkpoint.load(tmp_path / "rest.safetensors"))
    assert again.erasure.hash == step.erasure.hash


def test_each_concept_has_directions_of_its_own(tiny):
    two = last(tiny, replace(EDIT, concepts=("a cat", "a dog"), rank=2)).erasure
    assert {len(t) for n, t in two.tensors.items() if "lora_A" in n} == {4}


def test_a_file_that_lost_a_factor_is_refused(tiny):
    made = last(tiny, EDIT).erasure
    name = next(n for n in made.tensors if "lora_A" in n)
    torn = replace(made, tensors={n: t for n, t in made.tensors.items() if n != name})
    with pytest.raises(ValueError, match="lora"):
        torn.apply(tiny)


@pytest.mark.parametrize("option", [{"rank": 2}, {"lam": 0.1}, {"edit": 1.0}])
def test_its_options_are_refused_elsewhere(option):
    with pytest.raises(ValueError, match="esd-lora"):
        EraseConfig("a cat", **option)
