"""Training pictures and their captions, composed on the fly from the rasterised drawings.

A label is an integer triple (object, style, background); -1 means "not named in the caption", or,
for the background, plain white. Pictures are `(B, 3, 128, 128)` in [0, 1].
"""

from __future__ import annotations

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tools import drawings
from tools.catalog import BACKGROUNDS, OBJECTS, STYLES

IMAGE_SIZE = 128
SMALL = 64  # side of what CLIP and the judge look at
STYLE_NAMES, BACKGROUND_NAMES = list(STYLES), list(BACKGROUNDS)
_COLOURS = torch.tensor([*BACKGROUNDS.values(), (255, 255, 255)]) / 255  # index -1 is white


def load_drawings(device: str | torch.device = "cpu") -> Tensor:
    """All drawings as premultiplied RGBA, uint8 `(objects, styles, 4, 144, 144)`."""
    rgba = np.load(drawings.build())["rgba"]
    return torch.from_numpy(rgba).permute(0, 1, 4, 2, 3).contiguous().to(device)


def sample_labels(batch: int, generator: torch.Generator, white: float = 0.5) -> Tensor:
    """What to draw: `(batch, 3)` labels, object and style uniform, `white` of them on white."""
    highs = (len(OBJECTS), len(STYLES), len(BACKGROUNDS))
    labels = torch.stack([torch.randint(h, (batch,), generator=generator) for h in highs], dim=1)
    labels[torch.rand(batch, generator=generator) < white, 2] = -1
    return labels


def every_drawing(seed: int) -> Tensor:
    """Labels `(objects * styles, 3)` that hold each drawing once, on white or a colour."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(torch.arange(len(OBJECTS)), torch.arange(len(STYLE_NAMES)))
    return torch.cat([grid, sample_labels(len(grid), generator)[:, 2:]], dim=1)


def placements(batch: int, generator: torch.Generator, jitter: float = 1.0) -> Tensor:
    """Random places and scales as affine maps `(batch, 2, 3)`.

    `jitter` 1 means 80 to 94 % of the picture's width, up to 6 % off its centre; 0 means neither.
    """
    scale = 0.87 + 0.14 * jitter * (torch.rand(batch, 1, generator=generator) - 0.5)
    shift = 0.12 * jitter * (torch.rand(batch, 2, generator=generator) - 0.5)
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 1 / scale[:, 0]
    theta[:, :, 2] = -shift / scale
    return theta


def paint(rgba: Tensor, labels: Tensor, theta: Tensor) -> Tensor:
    """The labelled drawings, placed by `theta`, on their backgrounds."""
    theta = theta.to(rgba.device)
    grid = F.affine_grid(theta, [len(labels), 4, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    drawing = F.grid_sample(rgba[labels[:, 0], labels[:, 1]] / 255, grid, align_corners=False)
    colour = _COLOURS[labels[:, 2]].to(rgba.device)[:, :, None, None]
    return (drawing[:, :3] + (1 - drawing[:, 3:]) * colour).clamp(0, 1)


def compose(rgba: Tensor, labels: Tensor, generator: torch.Generator, jitter: float = 1.0) -> Tensor:
    """Paint the labelled drawings at a random place and scale on their backgrounds."""
    return paint(rgba, labels, placements(len(labels), generator, jitter))


def shrink(images: Tensor, size: int = SMALL) -> Tensor:
    """Pictures averaged down to `size` pixels a side; those that are no larger stay as they are."""
    if images.shape[-1] <= size:
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise and blur half of the pictures, so that generated ones are judged fairly too."""
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    soft = (torch.rand(len(images), generator=generator) < 0.25).to(images.device)
    images = torch.where(soft[:, None, None, None], blurred, images)
    level = 0.12 * torch.rand(len(images), 1, 1, 1, generator=generator) ** 2
    noise = torch.randn(images.shape, generator=generator)
    return (images + (level * noise).to(images.device)).clamp(0, 1)


def caption(thing: int, style: int, background: int) -> str:
    """The plain prompt for a label triple; -1 leaves a part out, all -1 is the empty prompt."""
    words = OBJECTS[thing].phrase if thing >= 0 else ""
    if style >= 0:
        name = f"{STYLE_NAMES[style]} style"
        words = f"{words} in {name}" if words else name
    if background >= 0:
        colour = BACKGROUND_NAMES[background]
        ground = f"{'an' if colour == 'orange' else 'a'} {colour} background"
        words = f"{words} on {ground}" if words else ground
    return words


def random_caption(
    label: list[int],
    rng: random.Random,
    empty: float = 0.1,
    weights: tuple[int, int, int, int] = (60, 24, 12, 4),
) -> tuple[str, list]:
    """A caption that names a random part of the label, and the label of what it names.

    `weights`: of naming object and style, the object, the style, neither. A coloured background is
    always named (except by the empty prompt), so that a prompt that names none means white.
    """
    thing, style, background = label
    if rng.random() < empty:
        return "", [-1, -1, -1]
    named = rng.choices([(1, 1), (1, 0), (0, 1), (0, 0)], weights=weights)[0]
    thing, style = thing if named[0] else -1, style if named[1] else -1
    if thing >= 0 and style >= 0 and rng.random() < 0.4:
        ground = caption(-1, -1, background)
        words = f"{STYLE_NAMES[style]} style {OBJECTS[thing].name}"
        return words + (f" on {ground}" if ground else ""), [thing, style, background]
    return caption(thing, style, background), [thing, style, background]


def corpus() -> list[str]:
    """Captions that together contain every word the model is taught."""
    things = [caption(i, -1, -1) for i in range(len(OBJECTS))]
    styles = [caption(0, i, -1) for i in range(len(STYLES))]
    return things + styles + [caption(0, -1, i) for i in range(len(BACKGROUNDS))]
