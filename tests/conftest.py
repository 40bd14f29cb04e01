"""A tiny model of real classes, so that tests run on a CPU in seconds and download nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import pre_tokenizers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from esd_core.cli import erasing_run
from esd_core.exchange.pipelines import load_model
from esd_core.models import DiffusionModel

WORDS = "a cat dog rocket red blue in noto style".split()
WIDTH = 16  # of the text states


def tokenizer() -> CLIPTokenizer:
    """Each of WORDS is one token; any other text is read byte by byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens, merges = [*alphabet, *(c + "</w>" for c in alphabet)], []
    for word in WORDS:
        left, *rest = *word[:-1], word[-1] + "</w>"
        for right in rest:
            merges.append((left, right))
            left += right
            tokens.append(left)
    merges = list(dict.fromkeys(merges))
    specials = ("<|startoftext|>", "<|endoftext|>")
    vocab = {token: i for i, token in enumerate(dict.fromkeys((*tokens, *specials)))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=12)


def build(prediction_type: str) -> DiffusionModel:
    """Untrained, but the same numbers every time. Pictures 16 x 16, latents 4 x 8 x 8."""
    torch.manual_seed(0)
    words = tokenizer()
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(words),
            hidden_size=WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=words.model_max_length,
            bos_token_id=words.bos_token_id,
            eos_token_id=words.eos_token_id,
            pad_token_id=words.pad_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
    )
    vae = AutoencoderKL(
        sample_size=16,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    for part in (text_encoder, unet, vae):
        part.requires_grad_(False).eval()
    return DiffusionModel(f"tiny-{prediction_type}", words, text_encoder, unet, vae, scheduler)


@pytest.fixture(scope="session")
def tiny() -> DiffusionModel:
    return build("epsilon")


@pytest.fixture(scope="session")
def tiny_v() -> DiffusionModel:
    return build("v_prediction")


@pytest.fixture(scope="session")
def tiny_half(tiny: DiffusionModel) -> DiffusionModel:
    """`tiny` with its UNet in bfloat16."""
    return replace(tiny, unet=copy.deepcopy(tiny.unet).to(torch.bfloat16))


@pytest.fixture(scope="session")
def emoji() -> DiffusionModel:
    """The embedded model; nobody changes it."""
    return load_model("emoji", device="cpu")


@pytest.fixture
def two_steps(monkeypatch) -> None:
    """The command line draws its pictures before and after in two steps, as nobody looks at them."""
    monkeypatch.setattr(erasing_run, "compare", partial(erasing_run.compare, num_inference_steps=2))
