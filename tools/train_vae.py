"""Train the autoencoder: 64 x 64 pixels <-> 16 x 16 x 4 latents (diffusers' AutoencoderKL).

Loss: L1 + L2 + gradient L1 (sharp edges) + a weak KL, no adversary. The latents' standard
deviation is measured at the end and stored as `scaling_factor`, as Stable Diffusion does.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from tools import checkpoint, data
from tools.schedule import warm_hold_fall

OUT = Path("build/vae")
SEED = 2


def build_model() -> AutoencoderKL:
    """Factor 4, 4 latent channels; no attention, which SD's VAE has only in its middle block."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        sample_size=data.IMAGE_SIZE,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    )


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences between neighbouring pixels."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def batch_loss(vae: AutoencoderKL, rgba: Tensor, step: int, batch: int) -> Tensor:
    """Reconstruction and KL loss of one seeded batch."""
    generator = checkpoint.step_generator(SEED, step)
    x = data.compose(rgba, data.sample_labels(batch, generator), generator) * 2 - 1
    noise = torch.randn(batch, 4, 16, 16, generator=generator).to(x.device)
    with checkpoint.autocast(x.device):
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    sharp = sum(F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True))
    kl = posterior.kl().float().mean() / 64
    return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * sharp + 2e-4 * kl


@torch.no_grad()
def measure(vae: AutoencoderKL, rgba: Tensor, count: int = 64) -> tuple[float, float]:
    """PSNR in dB on fresh pictures, and the standard deviation of their latents."""
    generator = torch.Generator().manual_seed(10_000)
    x = data.compose(rgba, data.sample_labels(count, generator), generator) * 2 - 1
    z = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(32)])
    y = torch.cat([vae.decode(part).sample for part in z.split(32)]).clamp(-1, 1)
    return (-10 * torch.log10(F.mse_loss(y, x) / 4)).item(), z.std().item()


def main(updates: int, batch: int, start: Path | None = None) -> None:
    """Train (or go on training) and write `build/vae`."""
    torch.manual_seed(SEED)
    device = checkpoint.pick_device()
    rgba, vae = data.load_drawings(device), build_model().to(device)
    if start:
        vae.load_state_dict(AutoencoderKL.from_pretrained(start).state_dict())
    optimizer = torch.optim.AdamW(vae.parameters(), 2e-3, weight_decay=1e-4)
    schedule = warm_hold_fall(optimizer, updates)
    parts = dict(vae=vae, optimizer=optimizer, schedule=schedule)
    for step in range(checkpoint.resume(OUT / "resume.pt", **parts), updates):
        loss = batch_loss(vae, rgba, step, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            checkpoint.save(OUT / "resume.pt", step + 1, **parts)
            print(
                f"vae {step + 1}/{updates} loss {loss.item():.4f} psnr {measure(vae, rgba)[0]:.1f}",
                flush=True,
            )
    vae.register_to_config(scaling_factor=round(1 / measure(vae, rgba, 512)[1], 5))
    vae.save_pretrained(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=4600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--start", type=Path, help="folder of an autoencoder to go on from")
    main(**vars(parser.parse_args()))
