"""Train the autoencoder: 128 x 128 pixels <-> 16 x 16 x 4 latents (diffusers' AutoencoderKL).

Loss: L1 + L2 + gradient L1 (sharp edges) + a weak KL, no adversary. Nearly all the work lies at
low resolution: 16 channels at 128 pixels, 32 at 64, 64 at 32 and 96 at 16. The first 60 % of the
updates see crops of 64 pixels, four times cheaper. Then the latents are settled: their standard
deviation is stored as `scaling_factor`, as Stable Diffusion does, and the UNet's training can start
while `tools.train_decoder` goes on with the decoder alone.

Where ESD_START names the model before (see `tools.growing`), the latents are that one's, of the same
picture at half the size: the encoder learns to write them and the decoder to read 128 pixels from them.
The UNet's training can then run beside this one.
"""

from __future__ import annotations

import argparse

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from tools import checkpoint, data, growing
from tools.training import Stage

OUT = checkpoint.BUILD / "vae"
SEED = 2
LATENT_CHANNELS = 4
CROP = 64
KL_WEIGHT = 1.6e-3  # of the mean over latents


def build_model() -> AutoencoderKL:
    """Factor 8, 8 latent channels; no attention, which SD's VAE has only in its middle block."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        sample_size=data.IMAGE_SIZE,
        block_out_channels=(16, 32, 64, 96),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        mid_block_add_attention=False,
    )


def edges(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical differences between neighbouring pixels."""
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def difference(y: Tensor, x: Tensor) -> Tensor:
    """L1 + L2 + half the L1 of the edges, of pictures in [-1, 1]."""
    sharp = sum(F.l1_loss(a, b) for a, b in zip(edges(y), edges(x), strict=True))
    return F.l1_loss(y, x) + F.mse_loss(y, x) + 0.5 * sharp


def crop(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """A random square of each picture, `(B, 3, side, side)`."""
    room = x.shape[-1] - side + 1
    corners = torch.randint(0, room, (len(x), 2), generator=generator).tolist()
    return torch.stack([p[:, i : i + side, j : j + side] for p, (i, j) in zip(x, corners, strict=True)])


def batch_loss(
    vae: AutoencoderKL,
    rgba: Tensor,
    step: int,
    batch: int,
    side: int = data.IMAGE_SIZE,
    before: AutoencoderKL | None = None,
) -> Tensor:
    """Reconstruction and KL loss of one seeded batch of squares of `side` pixels.

    With the model `before`, the decoder reads that one's latents and the encoder learns to write them.
    """
    generator = checkpoint.step_generator(SEED, step)
    x = data.compose(rgba, data.sample_labels(batch, generator), generator) * 2 - 1
    x = crop(x, side, generator)
    noise = torch.randn(batch, LATENT_CHANNELS, side // 8, side // 8, generator=generator).to(x.device)
    with checkpoint.autocast(x.device):
        posterior = vae.encode(x).latent_dist
        if before is None:
            kl = posterior.kl().float().mean() / noise[0].numel()
            y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
            return difference(y, x) + KL_WEIGHT * kl
        with torch.no_grad():
            wanted = before.encode(data.shrink(x, side // 2)).latent_dist
        y = vae.decode(wanted.mean + wanted.std * noise).sample.float()
    return difference(y, x) + F.mse_loss(posterior.mean.float(), wanted.mean.float())


@torch.no_grad()
def measure(vae: AutoencoderKL, rgba: Tensor, count: int = 32) -> tuple[float, float]:
    """PSNR in dB on fresh pictures, and the standard deviation of their latents."""
    generator = torch.Generator().manual_seed(10_000)
    x = data.compose(rgba, data.sample_labels(count, generator), generator) * 2 - 1
    z = torch.cat([vae.encode(part).latent_dist.mean for part in x.split(16)])
    y = torch.cat([vae.decode(part).sample for part in z.split(16)]).clamp(-1, 1)
    return (-10 * torch.log10(F.mse_loss(y, x) / 4)).item(), z.std().item()


def main(updates: int, batch: int) -> None:
    """Train (or go on training) and write the folder `vae`."""
    torch.manual_seed(SEED)
    device = checkpoint.pick_device()
    rgba, vae, before = data.load_drawings(device), build_model().to(device), None
    if growing.START:
        before = AutoencoderKL.from_pretrained(growing.START / "vae").to(device).eval()
        print("fresh:", *growing.vae(vae, growing.START / "vae"), flush=True)
    stage = Stage("vae", torch.optim.AdamW(vae.parameters(), 2e-3, weight_decay=1e-4), updates, vae=vae)

    def loss_of(step: int) -> Tensor:
        if step < 0.6 * updates:
            return batch_loss(vae, rgba, step, batch, CROP, before)
        return batch_loss(vae, rgba, step, batch // 2, before=before)

    for made in stage.train(loss_of):
        if made % 250 == 0:
            stage.say("psnr {:.1f} dB, std {:.2f}".format(*measure(vae, rgba)))
    psnr, std = measure(vae, rgba, 256)
    # The UNet of the model before knows its latents at the scale that it was trained with.
    factor = before.config.scaling_factor if before else round(1 / std, 5)
    vae.register_to_config(scaling_factor=factor)
    vae.save_pretrained(OUT)
    stage.record(batch=batch, start=str(growing.START), psnr=round(psnr, 2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    main(**vars(parser.parse_args()))
