"""Pictures of what the other modules compute: labelled sheets and loss curves.

Sheets are PIL images, plots are matplotlib `Figure`s (no pyplot, so nothing global and no leaks).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from esd_core.compare import Comparison

INK, FAINT, PAPER = "#1f2328", "#6b7280", "#ffffff"
GAP = 6


def to_pil(image: Tensor, size: int | None = None) -> Image.Image:
    """A picture `(3, H, W)` in [0, 1] as a PIL image, scaled to `size` pixels a side if given."""
    array = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    picture = Image.fromarray(array)
    return picture if size is None else picture.resize((size, size), Image.Resampling.LANCZOS)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text` broken at spaces so that no line is wider than `width`, if words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


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
        row_labels: one per row; empty strings take no room.
        column_labels: one per column, likewise.
        scale: enlargement of the pictures.
        title: a line above everything.
    """
    rows, columns, _, height, width = images.shape
    if len(row_labels) != rows or len(column_labels) != columns:
        raise ValueError(f"{rows} x {columns} pictures need as many labels as rows and columns")
    w, h = width * scale, height * scale
    font = ImageFont.load_default(13)
    names = [_wrapped(label, font, w) for label in column_labels]
    side = max((int(font.getlength(label)) for label in row_labels), default=0)
    left = side + 2 * GAP if side else GAP
    top = GAP + 17 * max((n.count("\n") + 1 for n in names if n), default=0)
    top += 20 if title else 0
    size = (left + columns * (w + GAP), top + GAP + rows * (h + GAP))
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    if title:
        pen.text((left, GAP), title, FAINT, font=font)
    for j, name in enumerate(names):
        place = (left + j * (w + GAP) + w // 2, top)
        pen.multiline_text(place, name, INK, font=font, anchor="md", align="center")
    for i, label in enumerate(row_labels):
        y = top + GAP + i * (h + GAP)
        pen.text((left - GAP, y + h // 2), label, INK, font=font, anchor="rm")
        for j in range(columns):
            picture = to_pil(images[i, j]).resize((w, h), Image.Resampling.LANCZOS)
            canvas.paste(picture, (left + j * (w + GAP), y))
    return canvas


def comparison_sheet(comparison: Comparison, scale: int = 2) -> Image.Image:
    """One row per column of the comparison, one picture per prompt and seed; same noise below."""
    images = np.stack([pictures.flatten(0, 1).numpy() for pictures in comparison.columns.values()])
    labels = [f"{p}, seed {s}" for p in comparison.prompts for s in comparison.seeds]
    title = f"same starting noise in every column ({comparison.noise_hash})"
    return sheet(Tensor(images), list(comparison.columns), labels, scale=scale, title=title)


def loss_figure(losses: Sequence[float], held_out: Sequence[tuple[int, float]] = ()) -> Figure:
    """Training loss per update, and the held-out target error, on logarithmic axes.

    Args:
        losses: one per update, from update 1.
        held_out: (update, relative error) points; see `EraseStep.held_out_error`.
    """
    figure = Figure(figsize=(7, 3 if not held_out else 4.6), layout="constrained")
    axes = figure.subplots(2 if held_out else 1, 1, sharex=True, squeeze=False)[:, 0]
    updates = np.arange(1, len(losses) + 1)
    axes[0].plot(updates, losses, color="#c7cbd1", linewidth=1, label="each update")
    width = max(1, len(losses) // 12)
    if len(losses) >= 2 * width:
        smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
        label = f"mean of {width}" if width > 1 else None
        axes[0].plot(updates[width - 1 :], smooth, color="#3b5bdb", linewidth=1.8, label=label)
    axes[0].set(ylabel="training loss", yscale="log" if min(losses, default=1) > 0 else "linear")
    axes[0].legend(frameon=False, fontsize=8)
    if held_out:
        x, y = zip(*held_out, strict=True)
        axes[1].plot(x, y, color="#c2255c", linewidth=1.8, marker="o", markersize=3)
        axes[1].set(ylabel="held-out target error\n(1 = frozen model)", ylim=(0, None))
    axes[-1].set(xlabel="update")
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", color="#eceef1")
    return figure


def save_png(picture: Image.Image | Figure, path: str | Path) -> Path:
    """Write a PNG; a reader never sees a half-written one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    if isinstance(picture, Figure):
        picture.savefig(temporary, format="png", dpi=120)
    else:
        picture.save(temporary, format="png")
    os.replace(temporary, path)
    return path
