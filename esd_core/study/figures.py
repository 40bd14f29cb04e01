"""Pictures of what the other modules compute: contact sheets, maps of numbers, loss curves.

Sheets are PIL images, plots matplotlib `Figure`s without pyplot, so nothing is global.
"""

from __future__ import annotations

import math
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

INK, FAINT, HAIRLINE, PAPER = "#1f2328", "#6b7280", "#e3e6ea", "#ffffff"
ACCENT = "#2f5bd0"
GAP, BETWEEN, MARGIN = 4, 10, 16  # pixels: in a group of pictures, of all else, and around a sheet
LARGE = 128  # pixels a side from which pictures are shown as they are
ACROSS = 10  # pictures; further prompts of a comparison go below


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
        scale: enlargement of pictures smaller than 128 pixels.
        title: a line above everything.

    Raises:
        ValueError: there are more or fewer labels than rows or columns.
    """
    return _page(_grid(images, row_labels, column_labels, scale), title=title)


def comparison_sheet(comparison: Comparison, scale: int = 2) -> Image.Image:
    """A row per model, a group of pictures per prompt with its seeds side by side.

    Whatever stands in one column started from the same noise, whose hash is in the small print.
    """
    pictures, seeds = torch.stack(list(comparison.columns.values())), comparison.seeds
    bands, most = [], max(1, ACROSS // len(seeds))  # prompts side by side
    for i in range(0, len(comparison.prompts), most):
        prompts = comparison.prompts[i : i + most]
        heads = [
            label for prompt in prompts for label in (prompt or "(empty prompt)", *[""] * (len(seeds) - 1))
        ]
        band = pictures[:, i : i + most].flatten(1, 2)
        bands.append([_grid(band, list(comparison.columns), heads, scale)])
    listed = ", ".join(map(str, seeds))
    what = f"Seed {listed}." if len(seeds) == 1 else f"Seeds {listed}, from left to right."
    note = f"{what} Same starting noise down each column: {comparison.noise_hash}."
    return _page(table(bands, 2 * MARGIN), note=note)


def table(cells: Sequence[Sequence[Image.Image]], gap: int) -> Image.Image:
    """Images in rows and columns with a gap in pixels, each in the lower left corner of its cell; a row or
    column of empty ones takes no room."""
    widths = [max(cell.width for cell in column) for column in zip(*cells, strict=True)]
    heights = [max(cell.height for cell in row) for row in cells]
    xs, ys = (
        list(accumulate((n + gap if n else 0 for n in sides), initial=0)) for sides in (widths, heights)
    )
    canvas = Image.new("RGB", (xs[-1] - gap, ys[-1] - gap), PAPER)
    for row, y in zip(cells, ys[1:], strict=True):
        for cell, x in zip(row, xs[:-1], strict=True):
            canvas.paste(cell, (x, y - gap - cell.height))
    return canvas


def _grid(images: Tensor, row_labels: Sequence[str], column_labels: Sequence[str], scale: int) -> Image.Image:
    """Pictures in rows and columns with their labels, no margin."""
    rows, columns, _, height, width = images.shape
    if (len(row_labels), len(column_labels)) != (rows, columns):
        raise ValueError(
            f"{rows} x {columns} pictures, but {len(row_labels)} row labels and "
            f"{len(column_labels)} column labels"
        )
    w, h = (side * scale if width < LARGE else side for side in (width, height))
    letters = min(max(w // 9, 10), 18)  # pixels
    starts = [j for j, label in enumerate(column_labels) if label or j == 0]
    groups = [slice(*ends) for ends in zip(starts, [*starts[1:], columns], strict=True)]
    heads = [_text(column_labels[g.start], letters, (g.stop - g.start) * (w + GAP)) for g in groups]
    cells = [[_text("", letters, 0), *heads]]
    for label, row in zip(row_labels, images, strict=True):
        scaled = (to_pil(picture).resize((w, h), Image.Resampling.LANCZOS) for picture in row)
        shown = [ImageOps.expand(picture, 1, HAIRLINE) for picture in scaled]
        cells.append([_text(label, letters, max(w, 150), h), *(table([shown[g]], GAP) for g in groups)])
    return table(cells, BETWEEN)


def _page(body: Image.Image, *, title: str = "", note: str = "") -> Image.Image:
    """A sheet's body inside a margin, under a title and over small print."""
    parts = [_text(title, 16, body.width), body, _text(note, 12, body.width, ink=FAINT)]
    return ImageOps.expand(table([[part] for part in parts], BETWEEN), MARGIN, PAPER)


def _text(text: str, size: int, width: int, height: int = 0, ink: str = INK) -> Image.Image:
    """`text` in at most three lines no wider than `width` pixels, in the middle of `height`; what does not
    fit ends in "…"."""
    font, lines = ImageFont.load_default(size), list[str]()
    for letters in range(len(text), 0, -1):
        lines = textwrap.wrap(text, letters, max_lines=3, placeholder="…")
        if all(font.getlength(line) < width for line in lines):
            break
    longest = max((math.ceil(font.getlength(line)) + 1 for line in lines), default=0)
    step = round(1.3 * size)  # room for "Å" and "g"
    top = max(0, height - step * len(lines)) // 2
    written = Image.new("RGB", (longest, max(height, step * len(lines))), PAPER)
    for i, line in enumerate(lines):
        ImageDraw.Draw(written).text((0, top + i * step), line, ink, font=font)
    return written


def loss_figure(losses: Sequence[float | None], held_out: Sequence[tuple[int, float]] = ()) -> Figure:
    """Training loss, on a log axis if it falls far, and, if it was measured, the error on held-out examples.

    Args:
        losses: one per update, from update 1; what is None or not finite leaves a gap.
        held_out: (update, error relative to the frozen model's), as `EraseStep.held_out_error`.
    """
    padded = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8.4 if held_out else 5, 3.1), layout=padded)
    panels = figure.subplots(1, 2 if held_out else 1, squeeze=False, sharex=True)[0]
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    last = max(1, len(losses), *(update for update, _ in held_out))
    panels[0].set_xlim(-0.02 * last, 1.02 * last)
    _plot_losses(panels[0], np.where(np.isfinite(drawn := np.array(losses, float)), drawn, np.nan))
    if held_out:
        _plot_errors(panels[1], *np.array(held_out).T)
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


def _plot_losses(panel: Axes, losses: np.ndarray) -> None:
    updates, window = np.arange(1, len(losses) + 1), len(losses) // 10
    smooth, about = window > 1, f", and the mean of {window} updates" if window > 1 else ""
    if not np.isfinite(losses).any():
        about = ": never finite" if len(losses) else ": no update made"
        panel.set_yticks([])
    style(panel, "update", title=f"Training loss{about}")
    panel.plot(updates, losses, color=ACCENT, alpha=0.3 if smooth else 1, linewidth=1)
    if smooth:
        mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        panel.plot(updates[: len(mean)] + (window - 1) / 2, mean, color=ACCENT, linewidth=1.8)
    above_0 = losses[losses > 0]
    if len(above_0) and above_0.max() > 5 * above_0.min():  # in less, 1, 2, 5 may leave no tick at all
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()


def _plot_errors(panel: Axes, updates: np.ndarray, errors: np.ndarray) -> None:
    style(panel, "update", title="Target error on held-out examples")
    panel.axhline(1, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
    frozen: dict[str, Any] = dict(ha="right", va="bottom", color=FAINT, fontsize=8)
    panel.text(1, 1.02, "frozen model", transform=panel.get_yaxis_transform(), **frozen)
    panel.plot(updates, errors, color=ACCENT, linewidth=1.8, marker="o", markersize=3.5)
    panel.set_ylim(0, 1.05 * max(1.15, *errors[np.isfinite(errors)]))


def save_png(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write a PNG; a reader never sees a half-written one."""
    with replacing(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=150)
        else:
            picture.save(temporary, format="png")
    return Path(path)
