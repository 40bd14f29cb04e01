"""Erasing a class from a network that has learned a mixture: the same loop as on pictures.

The frozen network plays the frozen UNet: a copy of it is trained until its prediction for the class
meets the erasing target (`objective`) at the noisy points of the frozen one's own trajectories.
`Mixture.guided(concept, -eta)` is that target exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from esd_core.objective import erasing_loss, erasing_target
from esd_core.plane.mixture import noise, sample
from esd_core.plane.network import MixtureNet

BATCH, TRAJECTORIES, STEPS = 256, 128, 20  # examples of an update; paths of a guidance, their steps
GUIDANCE = (1.0, 3.0)  # of the paths: with 3 alone they keep to the class's far side


@torch.no_grad()
def visited(net: MixtureNet, concept: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noisy points `(N, 2)` on guided trajectories for the class, and their timesteps `(N,)`."""
    x_t, t = [], []
    for scale in GUIDANCE:
        start = noise(TRAJECTORIES, generator)
        for point in sample(net.guided(concept, scale), start, num_inference_steps=STEPS):
            x_t.append(point.x_t)
            t.append(point.t.expand(len(point.x_t)))
    return torch.cat(x_t), torch.cat(t)


def erase_class(
    frozen: MixtureNet, concept: int, eta: float, *, updates: int = 120, preserve: float = 1.0, seed: int = 0
) -> Iterator[tuple[MixtureNet, float]]:
    """Train a copy; yields it and the erasing loss at every update. The frozen one is not changed.

    Args:
        frozen: what `mixture_net.trained` returns.
        concept: the class to erase.
        eta: erasing strength in the paper's units.
        updates: 0 yields nothing.
        preserve: weight of the loss that holds the other classes, and no class, at the same points.
        seed: of the points that are drawn.
    """
    edited = copy.deepcopy(frozen).requires_grad_(True)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(edited.parameters(), lr=3e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(updates, 1))
    x_t, t = visited(frozen, concept, generator)
    for _ in range(updates):
        at = torch.randint(len(t), (BATCH,), generator=generator)
        held = torch.randint(frozen.classes, (BATCH,), generator=generator)
        held = torch.where(held == concept, frozen.classes, held)  # "no class" in its place
        x, level = x_t[at], t[at]
        with torch.no_grad():
            null, cond = frozen(x, level), frozen(x, level, concept)
            target, same = erasing_target(null, cond, eta), frozen(x, level, held)
        loss = erasing_loss(edited(x, level, concept), target)
        total = loss + preserve * erasing_loss(edited(x, level, held), same)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        decay.step()
        yield edited, loss.item()
