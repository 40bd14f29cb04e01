"""Plain charts for notebooks: bars side by side and curves. Matplotlib without pyplot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from esd_core.study.figures import FAINT, HAIRLINE, style
from lab.plane_figures import CLASSES

LOOK = tuple(zip(CLASSES, "os^Dv", strict=False))  # colour and marker, for who sees no colour


def _panel(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    style(axis, x, y, title)
    return figure, axis


def bars(labels: Sequence[str], series: Mapping[str, Sequence[float]], title: str, y: str) -> Figure:
    """A group of bars per label, one bar per series."""
    figure, axis = _panel(title, "", y)
    width = 0.8 / len(series)
    for i, ((name, values), (colour, _)) in enumerate(zip(series.items(), LOOK, strict=False)):
        places = [j + (i - (len(series) - 1) / 2) * width for j in range(len(labels))]
        axis.bar(places, [float(v) for v in values], width, color=colour, label=name)
    axis.axhline(0, color=FAINT, linewidth=0.8)
    axis.set_xticks(range(len(labels)), labels)
    axis.legend(fontsize=8, edgecolor=HAIRLINE)
    return figure


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str,
    x: str,
    y: str,
    mark: float | None = None,
) -> Figure:
    """A line with markers per series, from its x and y values; `mark` is a vertical line."""
    figure, axis = _panel(title, x, y)
    for (name, (xs, ys)), (colour, marker) in zip(series.items(), LOOK, strict=False):
        axis.plot(xs, ys, color=colour, marker=marker, markersize=5, linewidth=1.6, label=name)
    axis.axhline(0, color=FAINT, linewidth=0.8)  # in sight, so that small differences look small
    if mark is not None:
        axis.axvline(mark, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
    axis.legend(fontsize=8, edgecolor=HAIRLINE)
    return figure
