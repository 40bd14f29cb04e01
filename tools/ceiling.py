"""What the autoencoder alone allows: real drawings through it, marked, measured and laid out.

No UNet can draw better than this, so look before hours go into one. Writes `ceiling.json` and
`ceiling.png` (drawings above, their reconstructions below) and fails under the limit.

    python -m tools.ceiling
    python -m tools.ceiling --vae assets/emoji/vae  # the one that ships, for comparison
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor

from tools import checkpoint, data, judge, train_vae
from tools.catalog import OBJECTS

STYLES_LIMIT = 0.995
SHOWN = ("cat", "rocket", "guitar", "bicycle", "pizza", "house", "umbrella", "robot")
SEED = 30_000


@torch.no_grad()
def reconstruct(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Pictures `(B, 3, H, W)` in [0, 1] through the autoencoder."""
    z = vae.encode(images * 2 - 1).latent_dist.mean
    return (vae.decode(z).sample / 2 + 0.5).clamp(0, 1)


def measure(vae: AutoencoderKL, rgba: Tensor, every: int = 1) -> dict[str, float]:
    """PSNR at the autoencoder's own size, and the judge's shares, over every `every`-th drawing."""
    marker, generator = judge.load_judge(), torch.Generator().manual_seed(SEED)
    errors, right = [], {name: [] for name in judge.HEADS}
    for labels in data.every_drawing(SEED)[::every].split(48):
        images = data.shrink(data.compose(rgba, labels, generator), vae.config.sample_size)
        made = reconstruct(vae, images)
        errors.append(F.mse_loss(made, images, reduction="none").mean(dim=(1, 2, 3)))
        for name, found in judge.correct(marker, made, labels).items():
            right[name].append(found)
    # As a share of the whole error, not a mean of decibels, which flat drawings would dominate.
    psnr = -10 * torch.log10(torch.cat(errors).mean()).item()
    shares = {k: torch.cat(v).float().mean().item() for k, v in right.items()}
    return {"psnr": round(psnr, 2), **{k: round(v, 4) for k, v in shares.items()}}


def sheet(vae: AutoencoderKL, rgba: Tensor) -> Image.Image:
    """Every shown object in each style: the drawing, and under it what comes back."""
    names = [o.name for o in OBJECTS]
    rows = []
    for row, name in enumerate(SHOWN):
        labels = torch.tensor([[names.index(name), s, row % 8 - 1] for s in range(6)])
        images = data.compose(rgba, labels, torch.Generator().manual_seed(row), jitter=0)
        images = data.shrink(images, vae.config.sample_size)
        rows += [torch.cat([*images], dim=2), torch.cat([*reconstruct(vae, images)], dim=2)]
    pixels = (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(pixels.numpy())


def main(vae: Path, every: int, out: Path) -> None:
    """Measure, write and judge the figures.

    Raises:
        SystemExit: fewer styles than the limit come back.
    """
    model, rgba = AutoencoderKL.from_pretrained(vae).eval(), data.load_drawings()
    figures = measure(model, rgba, every)
    out.mkdir(parents=True, exist_ok=True)
    (out / "ceiling.json").write_text(json.dumps(figures, indent=1) + "\n")
    sheet(model, rgba).save(out / "ceiling.png")
    print(figures)
    if figures["style"] < STYLES_LIMIT:
        raise SystemExit(
            f"{figures['style']:.1%} of the styles come back; {STYLES_LIMIT:.1%} are wanted "
            "before a UNet is trained: run tools.train_vae with more --updates"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vae", type=Path, default=train_vae.OUT)
    parser.add_argument("--every", type=int, default=1, help="look at every n-th drawing only")
    parser.add_argument("--out", type=Path, default=checkpoint.BUILD / "ceiling")
    main(**vars(parser.parse_args()))
