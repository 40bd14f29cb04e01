"""Numbers on a grid as colours, for maps of attention and of predictions."""

from __future__ import annotations

import torch
from matplotlib import colormaps
from torch import Tensor


def sequential(values: Tensor, most: float) -> Tensor:
    """`(h, w)` from 0 (dark) to `most` (bright) -> picture `(3, h, w)` in [0, 1]."""
    return _coloured(values / max(most, 1e-12), "viridis")


def diverging(values: Tensor, most: float) -> Tensor:
    """`(h, w)`: -`most` is blue, 0 white, `most` red -> picture `(3, h, w)` in [0, 1]."""
    return _coloured(values / max(most, 1e-12) / 2 + 0.5, "RdBu_r")


def channels(latent: Tensor, most: float = 3.0) -> Tensor:
    """The first three channels of `(C, h, w)` as red, green and blue -> `(3, h, w)` in [0, 1];
    grey is 0, the full colour `most`."""
    return (latent[:3].detach().float().cpu() / most / 2 + 0.5).clamp(0, 1)


def _coloured(share: Tensor, name: str) -> Tensor:
    """`(h, w)` in [0, 1], clipped -> `(3, h, w)` by a matplotlib colour map."""
    rgb = colormaps[name](share.detach().float().clamp(0, 1).cpu().numpy())[..., :3]
    return torch.from_numpy(rgb).permute(2, 0, 1).float()
