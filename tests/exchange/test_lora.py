"""A placed erasure is a LoRA: the libraries that people load LoRAs with draw what `Erasure.apply` draws."""

from dataclasses import replace

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from esd_core import EraseConfig, Erasure, erase, generate, load_model, preset
from esd_core.erasure import DOWN
from esd_core.exchange import formats

CONFIG = EraseConfig("a cat", train_method="esd-lora", rank=2, edit=1.0, iterations=0, held_out=0)


@pytest.fixture(scope="module", params=["tiny", "emoji"])
def model(request):
    return load_model("emoji") if request.param == "emoji" else request.getfixturevalue("tiny")


@pytest.fixture(scope="module")
def erasure(model) -> Erasure:
    *_, last = erase(model, CONFIG)
    return last.erasure


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_diffusers_draws_what_apply_draws_at_any_scale(model, erasure, layout, tmp_path):
    path = tmp_path / "cat.safetensors"
    erasure.save(path) if layout == "diffusers" else formats.write_kohya(erasure, path)
    pipe = model.to_pipeline(erasure.apply(model, 0.0))  # a copy: the pipeline changes its UNet
    pipe.load_lora_weights(path)
    for scale in (1.0, 0.4, -0.5):
        pipe.set_adapters(pipe.get_list_adapters()["unet"], scale)
        theirs = generate(model, "a cat", seeds=[0], unet=pipe.unet, num_inference_steps=4)
        ours = generate(model, "a cat", seeds=[0], unet=erasure.apply(model, scale), num_inference_steps=4)
        assert torch.allclose(theirs, ours, atol=1e-4)
    frozen = generate(model, "a cat", seeds=[0], num_inference_steps=4)
    assert not torch.allclose(theirs, frozen, atol=1e-3)


def test_the_file_has_some_twenty_kilobytes(erasure, model, tmp_path):
    if model.name == "emoji":
        assert erasure.save(tmp_path / "cat.safetensors").stat().st_size < 60_000


def test_the_official_file_needs_the_model_and_holds_whole_matrices(model, erasure, tmp_path):
    with pytest.raises(ValueError, match="model"):
        formats.write_official(erasure, tmp_path / "none.safetensors")
    whole = load_file(formats.write_official(erasure, tmp_path / "whole.safetensors", model))
    edited = erasure.apply(model)
    assert all(torch.equal(edited.get_parameter(name), value) for name, value in whole.items())


def test_factors_that_do_not_fit_each_other_are_refused(model, erasure):
    name = next(n for n in erasure.tensors if n.endswith(DOWN))
    cut = Erasure({**erasure.tensors, name: erasure.tensors[name][:1]}, erasure.base)
    with pytest.raises(ValueError, match="does not have"):
        cut.apply(model)


def test_whole_matrices_are_no_lora(model, tmp_path):
    *_, last = erase(model, preset("live", "a cat", train_method="esd-x", iterations=0))
    with pytest.raises(ValueError, match="esd-lora"):
        formats.write_kohya(last.erasure, tmp_path / "cat.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["kohya", "kohya without our record", "diffusers", "PEFT"])
def test_our_loras_open_again_as_the_same_erasure(model, erasure, layout, tmp_path):
    path = tmp_path / "cat.safetensors"
    if "kohya" in layout:
        formats.write_kohya(erasure, path)
    elif layout == "diffusers":
        erasure.save(path)
    else:
        pipe = model.to_pipeline(erasure.apply(model, 0.0))
        pipe.load_lora_weights(erasure.save(tmp_path / "ours.safetensors"))
        factors = get_peft_model_state_dict(pipe.unet, adapter_name=pipe.get_list_adapters()["unet"][0])
        pipe.save_lora_weights(tmp_path, unet_lora_layers=factors, weight_name=path.name)
    if "without" in layout:  # as other programs save it again
        save_file(load_file(path), path)
    again = formats.load_erasure(path, model)
    assert again.is_lora and again.tensors.keys() == erasure.tensors.keys()
    assert all(torch.allclose(again.tensors[n], t) for n, t in erasure.tensors.items())
    recorded = layout in ("kohya", "diffusers")
    assert (again.provenance == erasure.provenance, again.base == erasure.base) == (recorded, recorded)


def test_kohyas_alpha_over_the_rank_scales_the_change(model, erasure, tmp_path):
    named = load_file(formats.write_kohya(erasure, tmp_path / "cat.safetensors"))
    half = {n: t / 2 if n.endswith(".alpha") else t for n, t in named.items()}
    save_file(half, tmp_path / "half.safetensors")
    edited = formats.load_erasure(tmp_path / "half.safetensors", model).apply(model)
    wanted = erasure.apply(model, 0.5)
    for name in erasure.changes:
        assert torch.allclose(edited.get_parameter(name), wanted.get_parameter(name), atol=1e-6)


def test_a_kohya_file_that_lost_a_factor_is_refused(model, erasure, tmp_path):
    named = load_file(formats.write_kohya(erasure, tmp_path / "cat.safetensors"))
    torn = {n: t for n, t in named.items() if n != next(n for n in named if "lora_up" in n)}
    save_file(torn, tmp_path / "torn.safetensors")
    with pytest.raises(ValueError, match="lora"):
        formats.load_erasure(tmp_path / "torn.safetensors", model)


def test_a_sum_of_loras_is_a_lora_whose_ranks_add_up(model, erasure, tmp_path):
    *_, last = erase(model, replace(CONFIG, concepts="a dog", rank=1))
    both = Erasure.combine(model, [erasure, last.erasure], [1.0, -0.5])
    assert both.is_lora and {len(t) for n, t in both.tensors.items() if n.endswith(DOWN)} == {3}
    sizes = [e.save(tmp_path / "a.safetensors").stat().st_size for e in (erasure, last.erasure, both)]
    assert sizes[2] < sizes[0] + sizes[1]
    edited = formats.load_erasure(formats.write_kohya(both, tmp_path / "k.safetensors"), model).apply(model)
    for name in both.changes:
        base = model.unet.get_parameter(name)
        wanted = erasure.value(name, base) + last.erasure.value(name, base, -0.5) - base
        assert torch.allclose(edited.get_parameter(name), wanted, atol=1e-6)
