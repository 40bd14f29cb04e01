"""Pictures of what a language model says: the next word's probabilities, and styles written."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lab.charts import bars
from lab.words import VOCABULARY


def next_words(named: Mapping[str, Tensor], count: int = 9) -> Figure:
    """The likeliest next words as bars, one bar for each named row of log-probabilities `(V,)`.

    The words shown are those to which any of the rows gives most.
    """
    rows = torch.stack(list(named.values())).exp()
    top = rows.max(0).values.topk(count).indices
    top = sorted(top.tolist(), key=lambda i: -rows[0, i])
    return _bars(
        {n: p[top].tolist() for n, p in zip(named, rows, strict=True)},
        [VOCABULARY[i] for i in top],
        "probability of the next word",
    )


def style_bars(named: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Shares of texts by style (`lab.words.shares`), a group of bars for each style."""
    styles = list(next(iter(named.values())))
    return _bars({n: [shares[s] for s in styles] for n, shares in named.items()}, styles, title)


def _bars(named: Mapping[str, list[float]], labels: list[str], title: str) -> Figure:
    figure = bars(labels, named, title, "")
    figure.axes[0].set_ylim(0, 1)
    return figure
