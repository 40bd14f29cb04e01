"""Pictures of the plane as SVG: drawn in milliseconds, sharp at every width, in the page's colours.

Notebooks use `lab.plane_figures`, whose matplotlib axes a reader can draw on.
"""

from __future__ import annotations

from html import escape

from torch import Tensor

from esd_core.plane.mixture import ALPHA_BAR
from ui.mixture.class_text import Classes

SIDE = 240  # of the view box


def picture(extent: float, marks: list[str], label: str, scale: float | None = None) -> str:
    """A square of the plane from -extent to extent with marks on it; `label` says what is seen.

    With the `scale` of the data in it a click tells where in the data it was.
    """
    clicked = f' data-extent="{extent / scale:.4f}"' if scale else ""
    axes = f"M0 {SIDE / 2}h{SIDE}M{SIDE / 2} 0v{SIDE}"
    return (
        f'<svg class="esd-plane" viewBox="0 0 {SIDE} {SIDE}" role="img" '
        f'aria-label="{escape(label)}"{clicked}><path class="esd-axes" d="{axes}"/>'
        f"{''.join(marks)}</svg>"
    )


def _at(x: float, y: float, extent: float) -> tuple[float, float]:
    return round(SIDE / 2 * (1 + x / extent), 1), round(SIDE / 2 * (1 - y / extent), 1)


def classes(named: Classes, extent: float, t: int | None = None) -> str:
    """Every class by name, with circles at one and two standard deviations, noised to t."""
    alpha_bar = 1.0 if t is None else float(ALPHA_BAR[t])
    drawn = []
    for k, (name, mean, std) in enumerate(
        zip(named.names, named.mixture.means, named.mixture.stds, strict=True)
    ):
        x, y = _at(*(alpha_bar**0.5 * mean).tolist(), extent)
        spread = (alpha_bar * float(std) ** 2 + 1 - alpha_bar) ** 0.5 * SIDE / 2 / extent
        circles = "".join(f'<circle cx="{x}" cy="{y}" r="{r * spread:.1f}"/>' for r in (1, 2))
        text = f'<text x="{x}" y="{y}">{escape(name)}</text>'
        drawn.append(f'<g class="esd-class esd-k{k}">{circles}{text}</g>')
    return "".join(drawn)


def dots(x: Tensor, nearest: Tensor, extent: float) -> str:
    """Points `(N, 2)`, in the colour of the class of each, `(N,)`."""
    paths = []
    for k in nearest.unique().tolist():
        places = (_at(*point, extent) for point in x[nearest == k].tolist())
        d = "".join(f"M{a} {b}h0" for a, b in places if 0 <= a <= SIDE and 0 <= b <= SIDE)
        paths.append(f'<path class="esd-dots esd-k{k}" d="{d}"/>')
    return "".join(paths)


def arrows(x: Tensor, v: Tensor, extent: float, kind: str) -> str:
    """An arrow `v` at every point, both `(N, 2)`; `kind` is the class of the style sheet."""
    d = []
    for (x0, y0), (dx, dy) in zip(x.tolist(), v.tolist(), strict=True):
        (a, b), (c, e) = _at(x0, y0, extent), _at(x0 + dx, y0 + dy, extent)
        u, w = c - a, e - b
        length = (u * u + w * w) ** 0.5
        if length < 0.5:
            continue
        s = min(5.0, 0.5 * length) / length
        left = f"{c - s * (u - 0.5 * w):.1f} {e - s * (w + 0.5 * u):.1f}"
        right = f"{c - s * (u + 0.5 * w):.1f} {e - s * (w - 0.5 * u):.1f}"
        d.append(f"M{a} {b}L{c} {e}M{left}L{c} {e}L{right}")
    return f'<path class="esd-arrows esd-{kind}" d="{"".join(d)}"/>'
