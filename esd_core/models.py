"""The frozen parts of a latent diffusion model: encode prompts and pictures, decode latents.

High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022), arXiv 2112.10752.
`exchange.pipelines` loads them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import BatchEncoding, CLIPTextModel, CLIPTokenizer

from esd_core.denoise import PredictionType
from esd_core.vocabulary import Vocabulary

VAE_PIXELS = 512 * 512  # through the VAE at once: one picture of Stable Diffusion's, 16 of the embedded one's


@dataclass(frozen=True)
class DiffusionModel:
    """The frozen parts of a latent text-to-image model. Nothing here is ever changed."""

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler  # or whatever the pipeline came with; read for its config
    vocabulary: Vocabulary | None = None
    clip_path: Path | None = None  # a transformers CLIPModel that scores this model's pictures

    @property
    def device(self) -> torch.device:
        """Where the UNet lives."""
        return self.unet.device

    @property
    def prediction_type(self) -> PredictionType:
        """Whether the UNet's output is the noise or the velocity."""
        return self.scheduler.config.prediction_type

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Cumulative signal power of the training schedule, `(1000,)` on the model's device."""
        return self.scheduler.alphas_cumprod.to(self.device, torch.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that identify the UNet's weights."""
        return fingerprint(self.unet)

    @property
    def short_name(self) -> str:
        """Its name for messages that a visitor may read: of a folder, without those around it."""
        return Path(self.name).name if Path(self.name).exists() else self.name

    @property
    def image_size(self) -> int:
        """The side of a picture in pixels that the model was trained for."""
        return self.unet.config.sample_size * self.scale_factor

    @property
    def scale_factor(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, image_size: int | None = None) -> tuple[int, int, int]:
        """`(C, h, w)` of the latents of a square picture. ValueError if the size is not a positive multiple
        of what the UNet can halve."""
        size = self.image_size if image_size is None else image_size
        step = self.scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size < step or size % step:
            raise ValueError(f"image size {size} does not fit this model; use a multiple of {step}")
        side = size // self.scale_factor
        return (self.unet.config.in_channels, side, side)

    def tokenize(self, prompts: list[str]) -> BatchEncoding:
        """`input_ids` and `attention_mask`, a row per prompt, padded to the length that the text
        encoder reads; a longer prompt is not cut."""
        # Always padded the same: the tokenizer keeps that setting, and threads share the tokenizer.
        limit = self.tokenizer.model_max_length
        return self.tokenizer(prompts, padding="max_length", max_length=limit)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Text states `(B, L, D)` of prompts; `""` is the empty prompt of guidance. ValueError if a prompt is
        longer than the text encoder reads."""
        limit = self.tokenizer.model_max_length
        rows = self.tokenize(prompts)["input_ids"]
        for prompt, ids in zip(prompts, rows, strict=True):
            if len(ids) > limit:
                raise ValueError(
                    f"prompt {prompt!r} has {len(ids) - 2} tokens; this model reads {limit - 2}: shorten it"
                )
        return self.text_encoder(torch.tensor(rows, device=self.text_encoder.device))[0].float()

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """Clean latents `(B, C, h, w)` -> pictures `(B, 3, H, W)` in [0, 1], float32 on the CPU. ValueError
        if the pictures are not numbers (NaN or infinite)."""
        z = x_0.to(self.vae.dtype) / self.vae.config.scaling_factor
        each = max(1, VAE_PIXELS // (z[0, 0].numel() * self.scale_factor**2))
        images = torch.cat([self.vae.decode(few).sample.float().cpu() for few in z.split(each)])
        if not images.isfinite().all():
            way = "lower guidance_scale, the erasure's strength or its learning rate, or load in float32"
            raise ValueError(f"the pictures are NaN or infinite; {way}")
        return (images / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)` in [0, 1] -> clean latents `(B, C, h, w)` (posterior mean)."""
        parts = (images * 2 - 1).contiguous().split(max(1, VAE_PIXELS // images[0, 0].numel()))
        encoded = [self.vae.encode(few.to(self.device, self.vae.dtype)).latent_dist.mean for few in parts]
        return torch.cat(encoded).float() * self.vae.config.scaling_factor

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` the model has never seen; [] if it keeps no list of its words."""
        return self.vocabulary.unknown_words(prompt) if self.vocabulary else []

    def with_unet(self, unet: UNet2DConditionModel) -> DiffusionModel:
        """The same model around another UNet (an edited copy, say)."""
        return replace(self, unet=unet)

    def to_pipeline(self, unet: UNet2DConditionModel | None = None) -> StableDiffusionPipeline:
        """A plain diffusers pipeline around these parts, with `unet` in place of the frozen one."""
        unet = self.unet if unet is None else unet
        parts = (self.vae, self.text_encoder, self.tokenizer, unet, self.scheduler)
        return StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def fingerprint(module: torch.nn.Module) -> str:
    """Twelve hex digits of weights: names, shapes and up to 16 values of each tensor, read as bfloat16."""
    digest = hashlib.sha256()
    for name, weight in module.named_parameters():
        values = weight.detach().flatten()
        values = values[:: max(1, values.numel() // 16)][:16].to("cpu", torch.bfloat16)
        digest.update(f"{name}{tuple(weight.shape)}{values.tolist()}".encode())
    return digest.hexdigest()[:12]
