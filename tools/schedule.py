"""The learning rate of every stage: warm up, hold, fall as a cosine over the last 40 %.

It depends on the update and the planned total alone, so a stage can be resumed with more updates.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def factor(step: int, updates: int, warm_up: int = 200) -> float:
    """What the peak rate is multiplied by at update `step` of `updates`: from 0 to 1."""
    fall = min(1.0, max(0.0, (step / updates - 0.6) / 0.4))
    return min(1.0, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall)))


def warm_hold_fall(optimizer: Optimizer, updates: int) -> LambdaLR:
    """`factor` as a torch scheduler."""
    return LambdaLR(optimizer, lambda step: factor(step, updates))
