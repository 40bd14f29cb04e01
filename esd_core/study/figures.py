"""Pictures of what the other modules compute: labelled contact sheets and loss curves.

Sheets are PIL images, plots matplotlib `Figure`s on the Agg canvas: no pyplot, so nothing global.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from esd_core.files import replacing
from esd_core.study.comparison import Comparison

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


def sheet(
    images: Tensor,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    scale: int = 2,
    title: str | None = None,
) -> Image.Image:
    """A labelled contact sheet.

    Args:
        images: `(rows, columns, 3, H, W)` in [0, 1].
        row_labels: one per row; a side whose labels are all empty takes no room.
        column_labels: one per column. A label runs on over following columns with an empty one,
            which it then makes a group of.
        scale: enlargement of pictures smaller than 256 pixels.
        title: a line above everything.
    """
    return _framed([_grid(images, row_labels, column_labels, scale)], title=title)


def comparison_sheet(comparison: Comparison, scale: int = 2) -> Image.Image:
    """A row per model, a group of pictures per prompt with its seeds side by side.

    Whatever stands in one column started from the same noise, whose hash is in the small print.
    """
    everything = torch.stack(list(comparison.columns.values()))
    prompts, seeds = len(comparison.prompts), len(comparison.seeds)
    group = seeds * (_scaled(everything.shape[-1], scale) + GAP) + 2 * GAP
    together = max(1, WIDEST // group)
    bands = []
    for i in range(0, prompts, together):
        some = everything[:, i : i + together]
        heads = [
            label
            for prompt in comparison.prompts[i : i + together]
            for label in (prompt or "(empty prompt)", *[""] * (seeds - 1))
        ]
        bands.append(_grid(some.flatten(1, 2), list(comparison.columns), heads, scale))
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
    line = _line(font)
    sides = [_wrap(label, font, max(w, 150), max(1, h // line)) for label in row_labels]
    left = max((round(font.getlength(s)) for lines in sides for s in lines), default=0)
    xs, spans = _columns(column_labels, left + 2 * GAP if left else 1, w)
    heads = {j: _wrap(column_labels[j], font, span, 3) for j, span in spans.items()}
    top = max((len(lines) for lines in heads.values()), default=0) * line
    top += GAP if top else 1
    canvas = Image.new("RGB", (xs[-1] + w + 1, top + rows * (h + GAP) - GAP + 1), PAPER)
    pen = ImageDraw.Draw(canvas)
    for j, lines in heads.items():
        _write(pen, (xs[j], top - GAP - line * len(lines)), lines, font)
    for i, lines in enumerate(sides):
        y = top + i * (h + GAP)
        _write(pen, (0, y + (h - line * len(lines)) // 2), lines, font)
        for j, x in enumerate(xs):
            canvas.paste(to_pil(images[i, j]).resize((w, h), Image.Resampling.LANCZOS), (x, y))
            pen.rectangle((x - 1, y - 1, x + w, y + h), outline=HAIRLINE)
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


def _framed(
    grids: Sequence[Image.Image], *, title: str | None = None, note: str | None = None
) -> Image.Image:
    """Grids above each other inside a margin, under a title, over small print."""
    width = max(grid.width for grid in grids)
    font, small = ImageFont.load_default(16), ImageFont.load_default(12)
    above = _wrap(title or "", font, width, 2)
    below = _wrap(note or "", small, width, 3)
    y = MARGIN + (len(above) * _line(font) + GAP if above else 0)
    height = y + sum(grid.height for grid in grids) + 2 * MARGIN * (len(grids) - 1) + MARGIN
    foot = len(below) * _line(small) + 8 if below else 0
    canvas = Image.new("RGB", (width + 2 * MARGIN, height + foot), PAPER)
    pen = ImageDraw.Draw(canvas)
    _write(pen, (MARGIN, MARGIN), above, font)
    for grid in grids:
        canvas.paste(grid, (MARGIN, y))
        y += grid.height + 2 * MARGIN
    _write(pen, (MARGIN, height - MARGIN + 8), below, small, FAINT)
    return canvas


def _line(font: Font) -> int:
    """Height of a line of text."""
    return round(font.getbbox("Åg")[3]) + 3


def _write(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], font: Font, colour: str = INK
) -> None:
    for i, text in enumerate(lines):
        pen.text((at[0], at[1] + i * _line(font)), text, colour, font=font)


def _wrap(text: str, font: Font, width: int, most: int) -> list[str]:
    """`text` in at most `most` lines no wider than `width`; what does not fit ends in "…"."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    if len(lines) > most:
        lines = [*lines[: most - 1], " ".join(lines[most - 1 :])]
    return [_shortened(text, font, width) for text in lines]


def _shortened(text: str, font: Font, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text.rstrip()}…"


def loss_figure(losses: Sequence[float], held_out: Sequence[tuple[int, float]] = ()) -> Figure:
    """Training loss on a log axis and, if it was measured, the error on held-out examples.

    Args:
        losses: one per update, from update 1.
        held_out: (update, error relative to the frozen model's), as `EraseStep.held_out_error`.
    """
    padded = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    figure = Figure(figsize=(8.4 if held_out else 5, 3.1), layout=padded)
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if held_out else 1, squeeze=False)[0]
    _plot_losses(panels[0], np.asarray(losses, float))
    if held_out:
        _plot_errors(panels[1], held_out)
    last = max([len(losses), 1, *(update for update, _ in held_out)])
    for panel in panels:
        panel.set_xlabel("update", fontsize=9, color=FAINT)
        panel.set_xlim(-0.02 * last, 1.02 * last)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        panel.tick_params(labelsize=8, colors=FAINT, which="both", length=0)
        panel.spines[["top", "right"]].set_visible(False)
        panel.spines[["left", "bottom"]].set_color(HAIRLINE)
        panel.grid(axis="y", color=HAIRLINE, linewidth=0.8)
        panel.set_axisbelow(True)
    return figure


def _plot_losses(panel: Axes, losses: np.ndarray) -> None:
    updates = np.arange(1, len(losses) + 1)
    window = len(losses) // 10
    smooth = window > 1
    panel.plot(updates, losses, color=ACCENT, alpha=0.3 if smooth else 1, linewidth=1)
    if smooth:
        mean = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        middle = updates[: len(mean)] + (window - 1) / 2
        panel.plot(middle, mean, color=ACCENT, linewidth=1.8)
    if (losses > 0).any():
        panel.set_yscale("log")
        narrow = losses.max() < 5 * losses.min()  # then 1, 2, 5 may leave no tick at all
        panel.yaxis.set_major_locator(MaxNLocator(5) if narrow else LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_locator(NullLocator())
    suffix = f", and the mean of {window} updates" if smooth else ""
    panel.set_title(f"Training loss{suffix}", loc="left", fontsize=10, color=INK)
    if not len(losses):
        panel.set_yticks([])
        panel.text(0.5, 0.5, "no update made", transform=panel.transAxes, ha="center", color=FAINT)


def _plot_errors(panel: Axes, held_out: Sequence[tuple[int, float]]) -> None:
    updates, errors = zip(*held_out, strict=True)
    panel.axhline(1, color=FAINT, linewidth=1, linestyle=(0, (3, 3)))
    panel.annotate(
        "frozen model",
        (1, 1),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=FAINT,
        fontsize=8,
    )
    panel.plot(updates, errors, color=ACCENT, linewidth=1.8, marker="o", markersize=3.5)
    panel.set_ylim(0, 1.05 * max(1.15, *errors))
    panel.set_title("Target error on held-out examples", loc="left", fontsize=10, color=INK)


def save_png(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write a PNG; a reader never sees a half-written one."""
    with replacing(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, format="png", dpi=150)
        else:
            picture.save(temporary, format="png")
    return Path(path)
