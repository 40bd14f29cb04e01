"""Pictures of the plane: densities, arrows of scores and predictions, samples, landing points.

matplotlib `Figure`s on the Agg canvas, no pyplot: a reader adds to the axes what an exercise asks
for. The app's pictures of the plane are `ui.mixture.svg`: a slider move there redraws five of them,
which matplotlib does too slowly, and they take the colours of the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from esd_core.plane.mixture import ALPHA_BAR, Mixture
from esd_core.study.figures import ACCENT, FAINT, HAIRLINE, INK

CLASSES = ("#c2410c", "#2f5bd0", "#2e7d32", "#7c3aed", "#0f766e")  # class 0 is the concept


def panels(
    count: int, *, extent: float = 4.0, titles: Sequence[str] = (), size: float = 3.4
) -> tuple[Figure, list[Axes]]:
    """A row of square panels of the plane from -extent to extent."""
    figure = Figure(figsize=(size * count, size + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for i, axis in enumerate(axes):
        axis.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
        axis.tick_params(labelsize=8, colors=FAINT, length=0)
        axis.spines[:].set_color(HAIRLINE)
        if i < len(titles):
            axis.set_title(titles[i], fontsize=10, color=INK, loc="left")
    return figure, axes


def density(axis: Axes, mixture: Mixture, t: int, concept: int | None = None) -> None:
    """Shade p_t over the panel; of one class alone if `concept` is given."""
    low, high = axis.get_xlim()
    line = torch.linspace(low, high, 120, dtype=torch.float64)
    grid = torch.cartesian_prod(line, line)
    p = mixture.log_density(grid, ALPHA_BAR[t], concept).exp().reshape(120, 120).T
    axis.imshow(p, extent=(low, high, low, high), origin="lower", cmap="Greys", alpha=0.55)


def scatter(axis: Axes, x: Tensor, classes: Tensor | None = None, **style: object) -> None:
    """Points `(N, 2)`, coloured by class if classes are given."""
    colours = ACCENT if classes is None else [CLASSES[k % len(CLASSES)] for k in classes.tolist()]
    options: dict = {"s": 5, "alpha": 0.6, "linewidths": 0, **style}
    axis.scatter(x[:, 0], x[:, 1], c=colours, **options)


def arrows(
    axis: Axes,
    x: Tensor,
    named: Mapping[str, Tensor],
    *,
    scale: float = 1.0,
    colours: Sequence[str] = (FAINT, CLASSES[0], ACCENT, CLASSES[2]),
) -> None:
    """From every point one arrow per named vector field, `(N, 2)` each, in data units * scale."""
    for (name, field), colour in zip(named.items(), colours, strict=False):
        axis.quiver(
            x[:, 0],
            x[:, 1],
            scale * field[:, 0],
            scale * field[:, 1],
            color=colour,
            label=name,
            angles="xy",
            scale_units="xy",
            scale=1,
            width=0.008,
            zorder=3,
        )
    axis.legend(fontsize=8, loc="lower right", framealpha=0.9, edgecolor=HAIRLINE)
