"""The frozen parts: text states, pictures, and telling weights apart."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from esd_core import models
from esd_core.vocabulary import Vocabulary


def test_without_a_vocabulary_no_word_is_called_unknown(tiny, tmp_path):
    assert Vocabulary.load(tmp_path / "concepts.json") is None
    assert tiny.unknown_words("a zebra") == []


def test_large_pictures_are_decoded_few_at_a_time(tiny, monkeypatch):
    x_0 = torch.randn(5, *tiny.latent_shape(), generator=torch.Generator().manual_seed(0))
    at_once = tiny.decode(x_0)
    monkeypatch.setattr(models, "VAE_PIXELS", 2 * tiny.image_size**2)
    batches = []
    hook = tiny.vae.decoder.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    in_parts = tiny.decode(x_0)
    hook.remove()
    assert batches == [2, 2, 1]
    assert_close(in_parts, at_once)


def test_many_pictures_are_encoded_few_at_a_time(tiny, monkeypatch):
    images = torch.rand((5, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    at_once = tiny.encode_images(images)
    monkeypatch.setattr(models, "VAE_PIXELS", 2 * tiny.image_size**2)
    batches = []
    hook = tiny.vae.encoder.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
    in_parts = tiny.encode_images(images)
    hook.remove()
    assert batches == [2, 2, 1]
    assert_close(in_parts, at_once)


def test_pictures_that_are_not_numbers_are_refused(tiny):
    x_0 = torch.zeros(2, *tiny.latent_shape())
    x_0[1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        tiny.decode(x_0)


# --- text -------------------------------------------------------------------------------------


def test_text_states_are_those_of_the_pipeline(tiny):
    prompts = ["a cat", "", "a red dog in noto style"]
    theirs, empty = tiny.to_pipeline().encode_prompt(prompts, "cpu", 1, True)
    assert_close(tiny.encode(prompts), theirs)
    assert_close(tiny.encode(["", "", ""]), empty)


def test_a_prompt_that_would_be_cut_off_is_refused(tiny):
    assert tiny.encode(["cat " * 10]).shape == (1, 12, 16)  # 10 tokens between start and end
    with pytest.raises(ValueError, match="11 tokens.* 10"):
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
    with pytest.raises(ValueError, match=f"image size {size} .*multiple of 4"):
        tiny.latent_shape(size)


def test_pictures_are_encoded_alike_however_they_lie_in_memory(tiny):
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    latents = tiny.encode_images(images.to(memory_format=torch.channels_last))  # as read from files
    assert torch.equal(latents, tiny.encode_images(images))


# --- identity ---------------------------------------------------------------------------------


def test_fingerprints_tell_weights_apart(tiny, tiny_half):
    assert tiny_half.fingerprint == tiny.fingerprint
    changed = copy.deepcopy(tiny.unet)
    with torch.no_grad():
        changed.conv_out.bias.add_(1)
    assert tiny.with_unet(changed).fingerprint != tiny.fingerprint


def test_another_unet_leaves_the_other_parts(tiny, tiny_half):
    model = tiny.with_unet(tiny_half.unet)
    assert model == replace(tiny, unet=tiny_half.unet)
    assert model.vae is tiny.vae and model.text_encoder is tiny.text_encoder
