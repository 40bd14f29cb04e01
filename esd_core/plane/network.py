"""A small network that learns a mixture's noise, as a UNet learns that of pictures.

Trained on noised draws with the class dropped now and then (arXiv 2207.12598), it never sees a
formula; `mixture` says what it should have learned. Seconds on one CPU core. It predicts with or
without a class, as a UNet does with or without a prompt.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esd_core.denoise import guide
from esd_core.plane.mixture import ALPHA_BAR, Mixture, PredictEps, add_noise

DROPOUT = 0.2  # share of examples whose class is hidden


class MixtureNet(nn.Module):
    """A multilayer perceptron: noisy point, timestep, class -> noise."""

    def __init__(self, classes: int, width: int = 128) -> None:
        super().__init__()
        self.classes = classes
        self.label = nn.Embedding(classes + 1, 16)  # the last one means "no class"
        self.layers = nn.Sequential(
            nn.Linear(2 + 8 + 16, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2),
        )

    def forward(self, x_t: Tensor, t: Tensor, concept: Tensor | int | None = None) -> Tensor:
        """Predicted noise `(N, 2)`.

        Args:
            x_t: noisy points `(N, 2)`.
            t: timesteps, `()` or `(N,)`.
            concept: classes, one for all or `(N,)`; None, or the number of classes, is no class.
        """
        k = torch.as_tensor(self.classes if concept is None else concept).expand(len(x_t))
        frequencies = math.pi * 2.0 ** torch.arange(4)
        phase = t.expand(len(x_t))[:, None] / 1000 * frequencies
        time = torch.cat([phase.sin(), phase.cos()], dim=1)
        return self.layers(torch.cat([x_t.float(), time, self.label(k)], dim=1)).to(x_t.dtype)

    def guided(self, concept: int, guidance_scale: float) -> PredictEps:
        """As `Mixture.guided`, learned."""

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return guide(self(x_t, t), self(x_t, t, concept), guidance_scale)

        return predict


def fit(
    mixture: Mixture, *, updates: int = 1500, batch_size: int = 512, seed: int = 0
) -> Iterator[tuple[MixtureNet, float]]:
    """Train a fresh network by the usual denoising loss; yields it and the loss at every update."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # modules draw their first weights from the global generator
        net = MixtureNet(len(mixture.means))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(updates, 1))
    for _ in range(updates):
        x_0, k = mixture.draw(batch_size, generator=generator)
        t = torch.randint(1000, (batch_size,), generator=generator)
        eps = torch.randn(x_0.shape, generator=generator, dtype=x_0.dtype)
        hidden = torch.rand(batch_size, generator=generator) < DROPOUT
        k = torch.where(hidden, net.classes, k)
        loss = F.mse_loss(net(add_noise(x_0, eps, ALPHA_BAR[t]), t, k), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        yield net, loss.item()


def trained(mixture: Mixture, *, updates: int = 1500, seed: int = 0) -> MixtureNet:
    """What `fit` ends with, frozen."""
    *_, (net, _) = fit(mixture, updates=updates, seed=seed)
    return net.requires_grad_(False).eval()
