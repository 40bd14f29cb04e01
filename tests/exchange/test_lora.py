"""A placed erasure is a LoRA: the libraries that people load LoRAs with draw what `Erasure.apply` draws."""

import pytest
import torch
from safetensors.torch import load_file

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
