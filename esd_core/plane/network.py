"""A small network that learns a mixture's noise, as a UNet learns that of pictures, and is erased.

Trained on noised draws with the class dropped now and then (arXiv 2207.12598), it never sees a
formula; `mixture` says what it should have learned. It predicts with or without a class, as a UNet
does with or without a prompt. Erasing a class is the loop of the pictures: a copy is trained until
its prediction for the class meets the erasing target (`objective`) at noisy points of the frozen
network's own trajectories. `Mixture.guided(concept, -eta)` is that target exactly.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esd_core.denoise import guide
from esd_core.objective import erasing_loss, erasing_target
from esd_core.plane.mixture import ALPHA_BAR, Mixture, PredictEps, add_noise, noise, sample

DROPOUT = 0.2  # share of examples whose class is hidden
BATCH, TRAJECTORIES, STEPS = 256, 128, 20  # examples of an erasing update; paths of a guidance, their steps
GUIDANCE = (1.0, 3.0)  # of the paths: with 3 alone they keep to the class's far side


class MixtureNet(nn.Module):
    """A multilayer perceptron: noisy point, timestep, class -> noise."""

    def __init__(self, classes: int, width: int = 128) -> None:
        super().__init__()
        self.classes = classes
        self.label = nn.Embedding(classes + 1, 16)  # the last one means "no class"
        sizes = (2 + 8 + 16, width, width)  # first the point, its time and its class
        hidden = [layer for size in sizes for layer in (nn.Linear(size, width), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

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
        return lambda x_t, t: guide(self(x_t, t), self(x_t, t, concept), guidance_scale)


def _descend(
    net: MixtureNet, updates: int, losses: Callable[[], tuple[Tensor, Tensor]]
) -> Iterator[tuple[MixtureNet, float]]:
    """Adam with a rate that falls to 0. `losses` gives the loss to report and the one to descend."""
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(updates, 1))
    for _ in range(updates):
        reported, total = losses()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        decay.step()
        yield net, reported.item()


def fit(
    mixture: Mixture, *, updates: int = 1500, batch_size: int = 512, seed: int = 0
) -> Iterator[tuple[MixtureNet, float]]:
    """Train a fresh network by the usual denoising loss; yields it and the loss at every update."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # modules draw their first weights from the global generator
        net = MixtureNet(len(mixture.means))

    def losses() -> tuple[Tensor, Tensor]:
        x_0, k = mixture.draw(batch_size, generator=generator)
        t = torch.randint(1000, (batch_size,), generator=generator)
        eps = noise(batch_size, generator)
        hidden = torch.rand(batch_size, generator=generator) < DROPOUT
        k = torch.where(hidden, net.classes, k)
        loss = F.mse_loss(net(add_noise(x_0, eps, ALPHA_BAR[t]), t, k), eps)
        return loss, loss

    return _descend(net, updates, losses)


def trained(mixture: Mixture, *, updates: int = 1500, seed: int = 0) -> MixtureNet:
    """What `fit` ends with, frozen."""
    *_, (net, _) = fit(mixture, updates=updates, seed=seed)
    return net.requires_grad_(False).eval()


@torch.no_grad()
def visited(net: MixtureNet, concept: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy points `(N, 2)` on guided trajectories for the class, and their timesteps `(N,)`."""
    starts = [(scale, noise(TRAJECTORIES, generator)) for scale in GUIDANCE]
    paths = (sample(net.guided(concept, scale), x, num_inference_steps=STEPS) for scale, x in starts)
    points = [point for path in paths for point in path]
    t = torch.stack([point.t for point in points])
    return torch.cat([point.x_t for point in points]), t.repeat_interleave(TRAJECTORIES)


def erase_class(
    frozen: MixtureNet, concept: int, eta: float, *, updates: int = 120, preserve: float = 1.0, seed: int = 0
) -> Iterator[tuple[MixtureNet, float]]:
    """Train a copy; yields it and the erasing loss at every update. The frozen one is not changed.

    Args:
        frozen: what `trained` returns.
        concept: the class to erase.
        eta: erasing strength in the paper's units.
        updates: 0 yields nothing.
        preserve: weight of the loss that holds the other classes, and no class, at the same points.
        seed: of the points that are drawn.
    """
    edited = copy.deepcopy(frozen).requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    x_t, t = visited(frozen, concept, generator)

    def losses() -> tuple[Tensor, Tensor]:
        at = torch.randint(len(t), (BATCH,), generator=generator)
        held = torch.randint(frozen.classes, (BATCH,), generator=generator)
        held = torch.where(held == concept, frozen.classes, held)  # "no class" in its place
        x, level = x_t[at], t[at]
        with torch.no_grad():
            target = erasing_target(frozen(x, level), frozen(x, level, concept), eta)
            same = frozen(x, level, held)
        loss = erasing_loss(edited(x, level, concept), target)
        return loss, loss + preserve * erasing_loss(edited(x, level, held), same)

    return _descend(edited, updates, losses)
