"""Models of Stable Diffusion's size with random weights: nothing to download.

What they predict is noise, but what they cost is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from esd_core import DiffusionModel
from esd_core.exchange.pipelines import EMOJI
from tools.train_unet import build_scheduler

SD_14 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)  # diffusers' defaults
SD_14_TEXT = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12)
SDXL = dict(
    sample_size=128,
    cross_attention_dim=2048,
    attention_head_dim=(5, 10, 20),
    block_out_channels=(320, 640, 1280),
    transformer_layers_per_block=(1, 2, 10),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
TOKENS = 77  # of a prompt, in either


class SdxlUNet(UNet2DConditionModel):
    """SDXL's, given its pooled text and picture sizes (here any) beside the prompt's states."""

    def forward(self, x_t: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Any:
        pooled = encoder_hidden_states[:, 0, :1280]
        sizes = pooled.new_full((len(pooled), 6), 1024)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return super().forward(x_t, t, encoder_hidden_states, added_cond_kwargs=added)


class Sized(DiffusionModel):
    """A model of which only the UNet is real: the VAE takes no part in erasing, and a prompt's states are
    drawn at random, at no cost."""

    def encode(self, prompts: list[str]) -> Tensor:
        width = self.unet.config.cross_attention_dim
        generators = [torch.Generator().manual_seed(sum(p.encode())) for p in prompts]
        states = [torch.randn(TOKENS, width, generator=g) for g in generators]
        return torch.stack(states).to(self.device)


def build_unet(arch: str) -> UNet2DConditionModel:
    """Without memory for its weights yet (device meta)."""
    with torch.device("meta"):
        return UNet2DConditionModel(**SD_14) if arch == "sd-1.4" else SdxlUNet(**SDXL)


def random_unet(arch: str, device: str, dtype: torch.dtype) -> UNet2DConditionModel:
    """Weights of a size that keeps activations finite."""
    unet = build_unet(arch).to(dtype).to_empty(device=device).requires_grad_(False).eval()
    for name, weight in unet.named_parameters():
        flat = name.endswith("weight") and weight.ndim == 1  # of a norm
        weight.fill_(1) if flat else weight.normal_(0, 0.02) if weight.ndim > 1 else weight.zero_()
    return unet


def small_vae() -> AutoencoderKL:
    """With Stable Diffusion's factor of 8 and little else."""
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )


def small_text_encoder(width: int) -> CLIPTextModel:
    """Of the UNet's width, which `esd_core` asks for, and little else; always the same."""
    size = dict(hidden_size=width, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIPTextModel(CLIPTextConfig(vocab_size=8, **size))


def tokenizer() -> CLIPTokenizer:
    """The embedded model's words, Stable Diffusion's length."""
    return CLIPTokenizer.from_pretrained(EMOJI / "tokenizer", model_max_length=TOKENS)


def build(arch: str, device: str, dtype: torch.dtype) -> Sized:
    """What `esd_core` erases from."""
    unet = random_unet(arch, device, dtype)
    text_encoder = small_text_encoder(unet.config.cross_attention_dim)
    return Sized(arch, tokenizer(), text_encoder, unet, small_vae(), build_scheduler())


def save_sd_14(folder: Path, dtype: torch.dtype) -> None:
    """What the authors' script loads: a pipeline's folder, its text encoder random, too."""
    pipeline = StableDiffusionPipeline(
        unet=random_unet("sd-1.4", "cpu", dtype),
        vae=small_vae().to(dtype),
        text_encoder=CLIPTextModel(CLIPTextConfig(**SD_14_TEXT)).to(dtype),
        tokenizer=tokenizer(),
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,  # type: ignore[arg-type]
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
