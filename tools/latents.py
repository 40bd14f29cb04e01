"""The pictures that the UNet learns from, encoded once: groups of one object in every style.

A group shares object, background, place and scale, so that nothing but the style tells its pictures
apart. Chunks of groups are files of their own: an interrupted encoding goes on where it was.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from tools import checkpoint, data, growing

OUT = checkpoint.BUILD / "latents"
SEED = 5
CHUNK = 40  # groups in a file
JITTER = 0.5  # half of what CLIP and the VAE see: less to learn about places, more about drawings


def group_labels(groups: int, generator: torch.Generator) -> Tensor:
    """Labels `(groups, styles, 3)`: one object and background in every style."""
    styles = len(data.STYLE_NAMES)
    labels = data.sample_labels(groups, generator)[:, None].repeat(1, styles, 1)
    labels[..., 1] = torch.arange(styles)
    return labels


@torch.no_grad()
def encode_chunk(vae: AutoencoderKL, rgba: Tensor, index: int) -> dict[str, Tensor]:
    """Latents `(CHUNK, styles, C, 16, 16)`, scaled, in float16, and labels `(CHUNK, styles, 3)`."""
    generator = checkpoint.step_generator(SEED, index)
    labels = group_labels(CHUNK, generator)
    where = data.placements(CHUNK, generator, JITTER)
    latents = []
    for some, place in zip(labels.split(8), where.split(8), strict=True):
        shared = place.repeat_interleave(some.shape[1], dim=0)
        pictures = data.paint(rgba, some.flatten(0, 1), shared) * 2 - 1
        pictures = data.shrink(pictures, vae.config.sample_size)
        mean = vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor
        latents.append(mean.unflatten(0, some.shape[:2]).cpu().half())
    return {"latents": torch.cat(latents), "labels": labels}


def build(chunks: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Latents `(G, styles, C, 16, 16)` and labels `(G, styles, 3)` of all chunks."""
    paths = [OUT / f"{index:03}.pt" for index in range(chunks)]
    missing = [(i, path) for i, path in enumerate(paths) if not path.exists()]
    if missing:
        rgba = data.load_drawings(device)
        vae = AutoencoderKL.from_pretrained((growing.START or checkpoint.BUILD) / "vae").float().to(device)
        for index, path in missing:
            checkpoint.write(path, encode_chunk(vae, rgba, index))
            print(f"latents {index + 1}/{chunks}", flush=True)
    stored = [torch.load(path, weights_only=True) for path in paths]
    return torch.cat([s["latents"] for s in stored]), torch.cat([s["labels"] for s in stored])
