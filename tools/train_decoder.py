"""Train the decoder further once the latents are settled, beside or after the UNet's training.

The encoder stands still, so latents that were encoded before stay right.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tools import checkpoint, data, train_vae
from tools.training import Stage

OUT = checkpoint.BUILD / "decoder"
SEED = 6


def batch_loss(vae: AutoencoderKL, rgba: Tensor, step: int, batch: int) -> Tensor:
    """Reconstruction loss of one seeded batch of whole pictures."""
    generator = checkpoint.step_generator(SEED, step)
    x = data.compose(rgba, data.sample_labels(batch, generator), generator) * 2 - 1
    with checkpoint.autocast(x.device):
        with torch.no_grad():
            posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(x.device)
        y = vae.decode(posterior.mean + posterior.std * noise).sample.float()
    return train_vae.difference(y, x)


def main(updates: int, batch: int) -> None:
    """Train (or go on training) and write the whole autoencoder to the folder `decoder`."""
    torch.manual_seed(SEED)
    device = checkpoint.pick_device()
    rgba, vae = data.load_drawings(device), AutoencoderKL.from_pretrained(train_vae.OUT).to(device)
    weights = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    stage = Stage("decoder", torch.optim.AdamW(weights, 1e-3, weight_decay=1e-4), updates, vae=vae)
    for made in stage.train(lambda step: batch_loss(vae, rgba, step, batch)):
        if made % 250 == 0:
            stage.say("psnr {:.1f} dB, std {:.2f}".format(*train_vae.measure(vae, rgba)))
    vae.save_pretrained(OUT)
    stage.record(batch=batch, psnr=round(train_vae.measure(vae, rgba, 256)[0], 2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=8)
    main(**vars(parser.parse_args()))
