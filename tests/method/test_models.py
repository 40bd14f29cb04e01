"""The frozen parts: loading, text states, pictures, and telling weights apart."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from esd_core import models
from esd_core.models import fingerprint, load_model
from esd_core.vocabulary import Concept, Vocabulary

WORDS = {
    "concepts": [
        {"name": "cat", "phrase": "a cat", "kind": "object", "category": "animals"},
        {"name": "noto", "phrase": "noto style", "kind": "style", "category": "style"},
    ],
    "words": ["a", "cat", "noto", "style"],
}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """`tiny` on disk in diffusers' layout, with a list of what it was taught."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.to_pipeline().save_pretrained(path, safe_serialization=True)
    (path / "concepts.json").write_text(json.dumps(WORDS))
    return path


def test_a_saved_pipeline_loads_as_the_same_model(tiny, folder):
    model = load_model(str(folder), device="cpu")
    assert model.fingerprint == tiny.fingerprint
    assert model.name == str(folder) and model.prediction_type == "epsilon"
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert_close(model.encode(["a cat"]), tiny.encode(["a cat"]))
    assert torch.equal(model.alpha_bar, tiny.alpha_bar)


def test_half_precision_loads_as_the_same_weights(tiny, folder):
    model = load_model(str(folder), device="cpu", dtype=torch.bfloat16)
    assert model.unet.dtype == torch.bfloat16
    assert model.fingerprint == tiny.fingerprint  # read at the coarser precision of the two
    assert model.encode(["a cat"]).dtype == torch.float32


def test_a_vocabulary_is_read_from_beside_the_weights(folder):
    model = load_model(str(folder), device="cpu")
    assert [c.name for c in model.vocabulary.of_kind("style")] == ["noto"]
    assert model.vocabulary.find(" A Cat ") == Concept("cat", "a cat", "object", "animals")
    assert model.vocabulary.find("dog") is None
    assert model.unknown_words("a DOG, a cat; dog 7") == ["dog", "7"]


def test_without_a_vocabulary_no_word_is_called_unknown(tiny, tmp_path):
    assert Vocabulary.load(tmp_path / "concepts.json") is None
    assert tiny.unknown_words("a zebra") == []


def test_large_pictures_are_decoded_few_at_a_time(tiny, monkeypatch):
    x_0 = torch.randn(5, *tiny.latent_shape(), generator=torch.Generator().manual_seed(0))
    at_once = tiny.decode(x_0)
    monkeypatch.setattr(models, "DECODED_AT_ONCE", 2 * tiny.image_size**2)
    batches = []
    hook = tiny.vae.decoder.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    in_parts = tiny.decode(x_0)
    hook.remove()
    assert batches == [2, 2, 1]
    assert_close(in_parts, at_once)


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model_index\.json is missing"):
        load_model(str(tmp_path))


def test_a_damaged_pipeline_is_refused(folder, tmp_path):
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="cannot load .* as a Stable Diffusion pipeline"):
        load_model(str(tmp_path), device="cpu")


def test_an_unreachable_name_is_refused(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.from_pretrained", offline)
    with pytest.raises(ValueError, match="'no-one/no-such-model'.*network.*couldn't connect"):
        load_model("no-one/no-such-model", device="cpu")


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match="device 'abacus' cannot be used here"):
        load_model("emoji", device="abacus")


# --- text -------------------------------------------------------------------------------------


def test_text_states_are_those_of_the_pipeline(tiny):
    prompts = ["a cat", "", "a red dog in noto style"]
    theirs, empty = tiny.to_pipeline().encode_prompt(prompts, "cpu", 1, True)
    assert_close(tiny.encode(prompts), theirs)
    assert_close(tiny.encode(["", "", ""]), empty)


def test_a_prompt_that_would_be_cut_off_is_refused(tiny):
    assert tiny.encode(["cat " * 10]).shape == (1, 12, 16)  # 10 tokens between start and end
    with pytest.raises(ValueError, match="has 11 tokens; this model reads 10: shorten it"):
        tiny.encode(["a cat", "cat " * 11])


# --- pictures ---------------------------------------------------------------------------------


def test_pictures_and_latents_have_the_autoencoders_proportions(tiny):
    assert (tiny.image_size, tiny.scale_factor) == (16, 2)
    assert tiny.latent_shape() == tiny.latent_shape(16) == (4, 8, 8)
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    latents = tiny.encode_images(images)
    assert latents.shape == (2, 4, 8, 8)
    decoded = tiny.decode(latents)
    assert decoded.shape == images.shape
    assert 0 <= decoded.min() and decoded.max() <= 1


def test_pictures_are_decoded_as_by_the_pipeline(tiny):
    latents = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(0))
    pipeline = tiny.to_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        raw = tiny.vae.decode(latents / tiny.vae.config.scaling_factor).sample
    theirs = pipeline.image_processor.postprocess(raw, output_type="pt")
    assert_close(tiny.decode(latents), theirs)


@pytest.mark.parametrize("size", [-4, 0, 2, 18])
def test_sizes_the_unet_cannot_halve_are_refused(tiny, size):
    with pytest.raises(ValueError, match=f"image size {size} does not fit .* a multiple of 4"):
        tiny.latent_shape(size)


# --- identity ---------------------------------------------------------------------------------


def test_fingerprints_tell_weights_apart(tiny, tiny_half):
    assert fingerprint(tiny_half.unet) == tiny.fingerprint
    changed = copy.deepcopy(tiny.unet)
    with torch.no_grad():
        changed.conv_out.bias.add_(1)
    assert fingerprint(changed) != tiny.fingerprint
    assert tiny.with_unet(changed).fingerprint == fingerprint(changed)


def test_another_unet_leaves_the_other_parts(tiny, tiny_half):
    model = tiny.with_unet(tiny_half.unet)
    assert model == replace(tiny, unet=tiny_half.unet)
    assert model.vae is tiny.vae and model.text_encoder is tiny.text_encoder
