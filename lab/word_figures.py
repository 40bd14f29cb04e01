"""Pictures of what a language model says: the next word's probabilities, and styles written."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from esd_core.figures import ACCENT, FAINT, HAIRLINE, INK
from lab.words import VOCABULARY

COLOURS = (FAINT, "#c2410c", ACCENT, "#2e7d32", "#7c3aed")


def next_words(named: Mapping[str, Tensor], count: int = 9) -> Figure:
    """The likeliest next words as bars, one bar for each named row of log-probabilities `(V,)`.

    The words shown are those to which any of the rows gives most.
    """
    rows = torch.stack(list(named.values())).exp()
    top = rows.max(0).values.topk(count).indices
    top = sorted(top.tolist(), key=lambda i: -rows[0, i])
    return _bars({n: p[top].tolist() for n, p in zip(named, rows, strict=True)},
                 [VOCABULARY[i] for i in top], "probability of the next word")  # fmt: skip


def style_bars(named: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Shares of texts by style (`lab.words.shares`), a group of bars for each style."""
    styles = list(next(iter(named.values())))
    return _bars({n: [shares[s] for s in styles] for n, shares in named.items()}, styles, title)


def _bars(named: Mapping[str, list[float]], labels: list[str], title: str) -> Figure:
    figure = Figure(figsize=(7.2, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    axis: Axes = figure.subplots()
    width = 0.8 / len(named)
    for k, (name, heights) in enumerate(named.items()):
        places = [i - 0.4 + (k + 0.5) * width for i in range(len(labels))]
        axis.bar(places, heights, 0.92 * width, label=name, color=COLOURS[k % len(COLOURS)])
    axis.set_xticks(range(len(labels)), labels, color=INK, fontsize=10)
    axis.set_title(title, loc="left", fontsize=10, color=INK)
    axis.set_ylim(0, 1)
    axis.tick_params(labelsize=9, colors=FAINT, length=0)
    axis.tick_params(axis="x", colors=INK)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(HAIRLINE)
    axis.grid(axis="y", color=HAIRLINE, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.legend(fontsize=9, frameon=False)
    return figure
