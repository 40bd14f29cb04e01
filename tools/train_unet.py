"""Train the denoiser: epsilon prediction on 16 x 16 x 4 latents, Stable Diffusion's schedule.

The text encoder (CLIP) and the VAE are frozen. Loss weight: Efficient Diffusion Training via
Min-SNR Weighting Strategy (Hang et al., 2023), arXiv 2303.09556, gamma = 5. One caption in ten is
empty, so that the same network also predicts without a condition: Classifier-Free Diffusion
Guidance (Ho and Salimans, 2022), arXiv 2207.12598. What is kept is the exponential moving average
of the weights.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.training_utils import EMAModel, compute_snr
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from tools import checkpoint, data, train_clip, train_vae
from tools.schedule import warm_hold_fall

OUT = Path("build/unet")
SEED = 3
LEARNING_RATE = 6e-4
MIN_SNR_GAMMA = 5.0
JITTER = 0.5  # half of what CLIP and the VAE see: less to learn about places, more about drawings


def build_model() -> UNet2DConditionModel:
    """Stable Diffusion's UNet, small: cross-attention at all three resolutions, 10.7 M weights."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(48, 128, 192),
        norm_num_groups=16,
        cross_attention_dim=128,
        attention_head_dim=(1, 2, 3),  # diffusers' name; it means the number of heads
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.x's own scheduler settings."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


@torch.no_grad()
def encode_pictures(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Latents `(count, 4, 16, 16)`, already scaled, and labels `(count, 3)`; made once."""
    path = OUT / "latents.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return stored["latents"], stored["labels"]
    rgba = data.load_drawings(device)
    vae = AutoencoderKL.from_pretrained(train_vae.OUT).to(device)
    latents, labels = [], []
    for chunk in range(count // 100):
        generator = checkpoint.step_generator(SEED, -1 - chunk)
        labels.append(data.sample_labels(100, generator))
        pictures = data.compose(rgba, labels[-1], generator, JITTER) * 2 - 1
        latents.append(vae.encode(pictures).latent_dist.mean.cpu() * vae.config.scaling_factor)
    stored = {"latents": torch.cat(latents), "labels": torch.cat(labels)}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(stored, path)
    return stored["latents"], stored["labels"]


class Trainer:
    """What one update needs; `loss(step)` is the weighted denoising error of a seeded batch."""

    def __init__(self, pictures: int, device: torch.device) -> None:
        self.latents, self.labels = encode_pictures(pictures, device)
        self.tokenizer = CLIPTokenizer.from_pretrained(train_clip.OUT)
        self.text_encoder = CLIPTextModel.from_pretrained(train_clip.OUT).to(device).eval()
        self.unet = build_model().to(device)
        self.scheduler = build_scheduler()
        self.device = device

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Prompts -> `(B, 16, 128)` text states."""
        ids = self.tokenizer(prompts, padding="max_length", return_tensors="pt").input_ids
        return self.text_encoder(ids.to(self.device)).last_hidden_state

    def loss(self, step: int, batch: int) -> Tensor:
        """min(SNR, gamma) / SNR * (eps_predicted - eps)^2, averaged over the batch."""
        generator, rng = checkpoint.step_generator(SEED, step), random.Random(step)
        picked = torch.randint(0, len(self.latents), (batch,), generator=generator)
        prompts = [data.random_caption(x, rng)[0] for x in self.labels[picked].tolist()]
        x_0 = self.latents[picked]
        eps = torch.randn(x_0.shape, generator=generator)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (batch,), generator=generator)
        snr = compute_snr(self.scheduler, t)
        x_t = self.scheduler.add_noise(x_0, eps, t).to(self.device)
        with checkpoint.autocast(self.device):
            predicted = self.unet(x_t, t.to(self.device), self.encode(prompts)).sample
        error = (predicted.float() - eps.to(self.device)).square().mean(dim=(1, 2, 3))
        return (error * (snr.clamp(max=MIN_SNR_GAMMA) / snr).to(self.device)).mean()


def main(updates: int, batch: int, pictures: int, start: Path | None = None) -> None:
    """Train (or go on training) and write the averaged weights to `build/unet`."""
    torch.manual_seed(SEED)
    device = checkpoint.pick_device()
    trainer = Trainer(pictures, device)
    unet = trainer.unet
    if start:
        unet.load_state_dict(UNet2DConditionModel.from_pretrained(start).state_dict())
    optimizer = torch.optim.AdamW(unet.parameters(), LEARNING_RATE, betas=(0.9, 0.99), fused=True)
    schedule = warm_hold_fall(optimizer, updates)
    ema = EMAModel(unet.parameters(), decay=0.999)
    parts = dict(unet=unet, optimizer=optimizer, schedule=schedule, ema=ema)
    started, mean_loss = time.time(), 0.0
    for step in range(checkpoint.resume(OUT / "resume.pt", **parts), updates):
        loss = trainer.loss(step, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        ema.step(unet.parameters())
        mean_loss += loss.item() / 250
        if (step + 1) % 250 == 0 or step + 1 == updates:
            checkpoint.save(OUT / "resume.pt", step + 1, **parts)
            print(f"unet {step + 1}/{updates} loss {mean_loss:.4f} {time.time() - started:.0f} s", flush=True)
            mean_loss = 0.0
    ema.copy_to(unet.parameters())
    unet.save_pretrained(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--start", type=Path, help="folder of a UNet to go on from")
    parser.add_argument("--pictures", type=int, default=16_000)
    main(**vars(parser.parse_args()))
