"""Intervals for measured shares and means, all at 95 %.

Wilson's score interval (JASA 22, 1927) for a share; Newcombe's for the change of a share in pairs
(Statistics in Medicine 17, 1998, p. 2635, method 10 without continuity correction); a percentile
bootstrap for a mean. Unlike "share +- 2 standard errors" the first two stay honest at 0 and 100 %.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

Interval = tuple[float, float]
Z = 1.959964  # standard normal quantile of 97.5 %


def wilson(right: int, total: int) -> Interval:
    """Bounds in [0, 1] for the share `right / total`, (0, 1) of nothing; ValueError if it is no share."""
    if not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is no share")
    if total == 0:
        return 0.0, 1.0
    share, extra = right / total, Z * Z / total
    centre = (share + extra / 2) / (1 + extra)
    spread = math.sqrt(share * (1 - share) * extra + extra**2 / 4) / (1 + extra)
    return max(0.0, centre - spread), min(1.0, centre + spread)


def paired_change(kept: int, lost: int, gained: int, never: int) -> Interval:
    """Bounds in [-1, 1] for (share after - share before) of pairs counted by their two outcomes."""
    total = kept + lost + gained + never
    if total == 0:
        return -1.0, 1.0
    before, after = (kept + lost) / total, (kept + gained) / total
    below, above = wilson(kept + lost, total), wilson(kept + gained, total)
    margins = (kept + lost) * (gained + never) * (kept + gained) * (lost + never)
    phi = (kept * never - lost * gained) / math.sqrt(margins) if margins else 0.0

    def reach(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down * down - 2 * phi * down * up + up * up))

    low = after - before - reach(after - above[0], below[1] - before)
    high = after - before + reach(above[1] - after, before - below[0])
    return max(-1.0, low), min(1.0, high)


def bootstrap_mean(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Interval:
    """Bounds for the mean of what `values`, independent units (runs, say), were drawn from; ValueError
    without any."""
    if not values:
        raise ValueError("there is nothing to average")
    rng, total = random.Random(seed), len(values)
    means = sorted(sum(rng.choices(values, k=total)) / total for _ in range(resamples))
    return means[int(0.025 * resamples)], means[math.ceil(0.975 * resamples) - 1]
