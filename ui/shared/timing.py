"""How long a call of the UNet takes here: a short timing of this machine, for estimates.

A call is timed once per process, on few and on more examples; what lies between and beyond is taken
to be a straight line.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import torch
from diffusers import UNet2DConditionModel

from esd_core import DiffusionModel, EraseConfig, denoise
from esd_core.run_state import start

FEW, MORE = 2, 12  # examples of a timed call
CallTime = Callable[[float], float]  # seconds of a call on n examples
PATIENT = 3.0  # seconds: a call on FEW examples slower than this is not timed on MORE


@cache
def evaluation(model: DiffusionModel) -> CallTime:
    """A prediction of the frozen UNet, per example and prompt."""
    return _time(partial(_call, model, model.unet))


@cache
def update(model: DiffusionModel, method: str) -> CallTime:
    """A prediction, its gradients for what `method` trains, and Adam's step."""
    run = start(model, EraseConfig("a", train_method=method))
    return _time(partial(_call, model, run.unet, optimizer=run.optimizer))


def slowdown(model: DiffusionModel) -> float:
    """How many times as long as when it was timed a prediction takes now, as others' work is going on; 1 or
    more, and 1 where it takes too long to try again."""
    best = evaluation(model)(FEW)
    if best > PATIENT / 10:
        return 1.0
    return max(1.0, sorted(_call(model, model.unet, FEW) for _ in range(5))[2] / best)


def _time(seconds: Callable[[int], float]) -> CallTime:
    """Time a call on FEW and on MORE examples: the best of three, after a warm-up."""
    first = seconds(FEW)
    few = first if first > PATIENT else min(seconds(FEW) for _ in range(3))
    more = few * MORE / FEW if few > PATIENT else min(seconds(MORE) for _ in range(3))
    each = max(0.0, more - few) / (MORE - FEW)
    return lambda n: max(0.0, few - FEW * each) + each * n


def _call(
    model: DiffusionModel, unet: UNet2DConditionModel, n: int, optimizer: torch.optim.Optimizer | None = None
) -> float:
    """Seconds of one call on n examples and, with an optimizer, of an update by its gradients."""
    x_t = torch.zeros(n, *model.latent_shape(), device=model.device)
    t = torch.full((n,), 500, device=model.device)
    embeds = model.encode([""]).expand(n, -1, -1)
    begun = time.perf_counter()
    with torch.set_grad_enabled(optimizer is not None):
        output = denoise.predict(unet, x_t, t, embeds)
        if optimizer is not None:
            output.square().mean().backward()
            optimizer.step()
    output.sum().item()  # waits for a device that works on its own
    return time.perf_counter() - begun


def duration(seconds: float) -> str:
    """Rounded to what one can believe: 3 s, 40 s, 14 min, 2 h."""
    if seconds < 90:
        return f"{round(seconds, -1) if seconds > 30 else seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
