"""Pictures of what the other modules compute: contact sheets, maps of numbers, loss curves.

Sheets are PIL images, plots matplotlib `Figure`s without pyplot, so nothing is global.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import LogLocator, MaxNLocator
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from esd_core.study.comparison import Comparison
from esd_core.support.files import replacing

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK, FAINT, HAIRLINE, PAPER = "#1f2328", "#6b7280", "#e3e6ea", "#ffffff"
ACCENT = "#2f5bd0"
GAP, MARGIN = 6, 16
LARGE = 256  # pixels a side from which pictures are shown as they are
WIDEST = 1500  # pixels; the prompts of a comparison wrap into bands rather than pass it


def to_pil(image: Tensor, size: int | None = None) -> Image.Image:
    """A picture `(3, H, W)` in [0, 1] as a PIL image, scaled to `size` pixels a side if given."""
    array = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(array)
    return picture if size is None else picture.resize((size, size), Image.Resampling.LANCZOS)


def sequential(values: Tensor, most: float) -> Tensor:
    """`(h, w)` from 0 (dark) to `most` (bright) -> picture `(3, h, w)` in [0, 1]."""
    return _coloured(values / max(most, 1e-12), "viridis")


def diverging(values: Tensor, most: float) -> Tensor:
    """`(h, w)`: -`most` is blue, 0 white, `most` red -> picture `(3, h, w)` in [0, 1]."""
    return _coloured(values / max(most, 1e-12) / 2 + 0.5, "RdBu_r")


def channels(latent: Tensor, most: float = 3.0) -> Tensor:
    """The first three channels of `(C, h, w)` as red, green and blue -> `(3, h, w)` in [0, 1];
    grey is 0, the full colour `most`."""
    return (latent[:3].detach().float().cpu() / most / 2 + 0.5).clamp(0, 1)


def _coloured(share: Tensor, name: str) -> Tensor:
    """`(h, w)` in [0, 1], clipped -> `(3, h, w)` by a matplotlib colour map."""
    rgb = colormaps[name](share.detach().float().clamp(0, 1).cpu().numpy())[..., :3]
    return torch.from_numpy(rgb).permute(2, 0, 1).float()


def sheet(
    images: Tensor,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    scale: int = 2,
    title: str = "",
) -> Image.Image:
    """A labelled contact sheet.

    Args:
        images: `(rows, columns, 3, H, W)` in [0, 1].
        row_labels: one per row; a side whose labels are all empty takes no room.
        column_labels: one per column. A label runs on over following columns with an empty one,
            which it then makes a group of.
        scale: enlargement of pictures smaller than 256 pixels.
        title: a line above everything.

    Raises:
        ValueError: there are more or fewer labels than rows or columns.
    """
    return _framed([_grid(images, row_labels, column_labels, scale)], title=title)


def comparison_sheet(comparison: Comparison, scale: int = 2) -> Image.Image:
    """A row per model, a group of pictures per prompt with its seeds side by side.

    Whatever stands in one column started from the same noise, whose hash is in the small print.
    """
    everything = torch.stack(list(comparison.columns.values()))
    seeds = len(comparison.seeds)
    group = seeds * (_scaled(everything.shape[-1], scale) + GAP) + 2 * GAP
    together = max(1, WIDEST // group)  # prompts side by side
    bands = []
    for i in range(0, len(comparison.prompts), together):
        prompts = comparison.prompts[i : i + together]
        heads = [label for prompt in prompts for label in (prompt or "(empty prompt)", *[""] * (seeds - 1))]
        band = everything[:, i : i + together].flatten(1, 2)
        bands.append(_grid(band, list(comparison.columns), heads, scale))
    listed = ", ".join(map(str, comparison.seeds))
    what = f"Seed {listed}." if seeds == 1 else f"Seeds {listed}, from left to right."
    return _framed(bands, note=f"{what} Same starting noise down each column: {comparison.noise_hash}.")


def _scaled(side: int, scale: int) -> int:
    return side * scale if side < LARGE else side


def _grid(images: Tensor, row_labels: Sequence[str], column_labels: Sequence[str], scale: int) -> Image.Image:
    """Pictures in rows and columns with their labels, no margin."""
    rows, columns, _, height, width = images.shape
    if (len(row_labels), len(column_labels)) != (rows, columns):
        raise ValueError(
            f"{rows} x {columns} pictures, but {len(row_labels)} row labels and "
            f"{len(column_labels)} column labels"
        )
    w, h = _scaled(width, scale), _scaled(height, scale)
    font = _font(column_labels, w)
    sides = [_wrapped(label, font, max(w, 150), max(1, h // _height("A", font))) for label in row_labels]
    left = max((round(font.getlength(line)) for side in sides for line in side.split("\n")), default=0)
    xs, spans = _columns(column_labels, left + 2 * GAP if left else 1, w)
    heads = {j: _wrapped(column_labels[j], font, span, 3) for j, span in spans.items()}
    top = max((_height(head, font) + GAP for head in heads.values()), default=1)
    canvas = Image.new("RGB", (xs[-1] + w + 1, top + rows * (h + GAP) - GAP + 1), PAPER)
    pen = ImageDraw.Draw(canvas)
    for j, head in heads.items():
        pen.text((xs[j], top - GAP), head, INK, font=font, anchor="ld")
    for i, side in enumerate(sides):
        y = top + i * (h + GAP)
        pen.text((0, y + h // 2), side, INK, font=font, anchor="lm")
        for j, x in enumerate(xs):
            picture = to_pil(images[i, j]).resize((w, h), Image.Resampling.LANCZOS)
            canvas.paste(ImageOps.expand(picture, 1, HAIRLINE), (x - 1, y - 1))
    return canvas


def _font(labels: Sequence[str], w: int) -> Font:
    """A size in proportion to pictures `w` wide; a little smaller if that keeps words whole."""
    words = [word for label in labels for word in label.split()]
    for size in range(min(max(w // 9, 12), 18), 9, -1):
        font = ImageFont.load_default(size)
        if all(font.getlength(word) <= w for word in words):
            break
    return font


def _columns(labels: Sequence[str], left: int, w: int) -> tuple[list[int], dict[int, int]]:
    """Where each column begins, and how wide the label that begins at a column may be."""
    starts = [j for j, label in enumerate(labels) if label]
    ends = [*starts[1:], len(labels)]
    spans = {j: (end - j) * (w + GAP) - GAP for j, end in zip(starts, ends, strict=False)}
    grouped = any(span > w for span in spans.values())
    steps = [w + (3 * GAP if grouped and j in spans else GAP) for j in range(1, len(labels))]
    return list(accumulate(steps, initial=left)), spans


def _framed(grids: Sequence[Image.Image], *, title: str = "", note: str = "") -> Image.Image:
    """Grids above each other inside a margin, under a title, over small print."""
    width = max(grid.width for grid in grids)
    font, small = ImageFont.load_default(16), ImageFont.load_default(12)
    title, note = _wrapped(title, font, width, 2), _wrapped(note, small, width, 3)
    y = MARGIN + (_height(title, font) + GAP if title else 0)
    below = y + sum(grid.height + 2 * MARGIN for grid in grids) - MARGIN - GAP  # of the small print
    height = below + (_height(note, small) + MARGIN if note else GAP)
    canvas = Image.new("RGB", (width + 2 * MARGIN, height), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN), title, INK, font=font)
    for grid in grids:
        canvas.paste(grid, (MARGIN, y))
        y += grid.height + 2 * MARGIN
    pen.text((MARGIN, below), note, FAINT, font=small)
    return canvas


def _height(text: str, font: Font) -> int:
    """Of lines of text, however low their letters are."""
    lines = "\n".join("Åg" for _ in text.split("\n"))
    return round(ImageDraw.Draw(Image.new("1", (1, 1))).textbbox((0, 0), lines, font=font)[3])


def _wrapped(text: str, font: Font, width: int, most: int) -> str:
    """`text` in at most `most` lines no wider than `width` pixels; what does not fit ends in "…"."""
    for letters in range(len(text), 0, -1):
        lines = textwrap.wrap(text, letters, max_lines=most, placeholder="…")
        if all(font.getlength(line) <= width for line in lines):
            return "\n".join(lines)
    return ""


def loss_figure(losses: Sequence[float], held_out: Sequence[tuple[int, float]] = ()) -> Figure:
    """Training loss on a log axis and, if it was measured, the error on held-out examples.

    Args:
        losses: one per update, from update 1; what is not finite leaves a gap.
        held_out: (update, error relative to the frozen model's), as `EraseStep.held_out_error`.
    """
    padded = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8.4 if held_out else 5, 3.1), layout=padded)
    panels = figure.subplots(1, 2 if held_out else 1, squeeze=False)[0]
    _plot_losses(panels[0], _finite(losses))
    updates, errors = zip(*held_out, strict=True) if held_out else ((), ())
    if held_out:
        _plot_errors(panels[1], updates, _finite(errors))
    last = max(len(losses), 1, *updates)
    for panel in panels:
        panel.set_xlim(-0.02 * last, 1.02 * last)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    return figure


def style(panel: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Label axes and draw few lines, in the colours of the sheets."""
    panel.set_title(title, loc="left", fontsize=10, color=INK)
    panel.set_xlabel(x, fontsize=9, color=FAINT)
    panel.set_ylabel(y, fontsize=9, color=FAINT)
    panel.tick_params(labelsize=8, colors=FAINT, which="both", length=0)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color(HAIRLINE)
    panel.grid(axis="y", color=HAIRLINE, linewidth=0.8)
    panel.set_axisbelow(True)


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, float)
    return np.where(np.isfinite(array), array, np.nan)


def _plot_losses(panel: Axes, losses: np.ndarray) -> None:
    updates, window = np.arange(1, len(losses) + 1), len(losses) // 10
    smooth = window > 1
    style(panel, "update", title="Training loss" + f", and the mean of {window} updates" * smooth)
    panel.plot(updates, losses, color=ACCENT, alpha=0.3 if smooth else 1, linewidth=1)
    if smooth:
        mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        panel.plot(updates[: len(mean)] + (window - 1) / 2, mean, color=ACCENT, linewidth=1.8)
    if len(above_0 := losses[losses > 0]):
        panel.set_yscale("log")
        narrow = above_0.max() < 5 * np.nanmin(losses)  # then 1, 2, 5 may leave no tick at all
        panel.yaxis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    if not np.isfinite(losses).any():
        panel.set_yticks([])
        said = "no loss was finite" if len(losses) else "no update made"
        panel.text(0.5, 0.5, said, transform=panel.transAxes, ha="center", color=FAINT)


def _plot_errors(panel: Axes, updates: Sequence[int], errors: np.ndarray) -> None:
    style(panel, "update", title="Target error on held-out examples")
    panel.axhline(1, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
    frozen: dict[str, Any] = dict(ha="right", va="bottom", color=FAINT, fontsize=8)
    panel.text(1, 1.02, "frozen model", transform=panel.get_yaxis_transform(), **frozen)
    panel.plot(updates, errors, color=ACCENT, linewidth=1.8, marker="o", markersize=3.5)
    panel.set_ylim(0, 1.05 * np.nanmax([1.15, *errors]))


def save_png(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write a PNG; a reader never sees a half-written one."""
    with replacing(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=150)
        else:
            picture.save(temporary, format="png")
    return Path(path)
