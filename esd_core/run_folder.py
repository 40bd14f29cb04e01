"""What a run leaves behind: one folder with the erasure, its settings, its loss and pictures."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from esd_core import figures
from esd_core.compare import compare
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.models import DiffusionModel


def new_folder(config: EraseConfig, parent: Path) -> Path:
    """A folder name under `parent` that no former run has taken."""
    slug = re.sub(r"[^a-z0-9]+", "-", config.concepts[0].concept.lower()).strip("-") or "concept"
    name = f"{slug}-{config.train_method}"
    folder, number = parent / name, 1
    while folder.exists():
        number += 1
        folder = parent / f"{name}-{number}"
    return folder


def write_text(path: Path, text: str) -> None:
    """Write a text file; a reader never sees a half-written one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_run(
    folder: Path,
    model: DiffusionModel,
    config: EraseConfig,
    erasure: Erasure,
    losses: Sequence[tuple[int, float, float]],
    held_out: Sequence[tuple[int, float]],
) -> None:
    """Write erasure.safetensors, config.json, loss.csv, loss.png and before_after.png.

    Args:
        losses: (update, seconds, loss) rows.
        held_out: (update, relative target error) points.
    """
    erasure.save(folder / "erasure.safetensors")
    write_text(folder / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerows([("update", "seconds", "loss"), *losses])
    write_text(folder / "loss.csv", table.getvalue())
    figures.save_png(figures.loss_figure([r[2] for r in losses], held_out), folder / "loss.png")
    result = compare(model, erasure.apply(model), shown_prompts(model, config), seeds=[0, 1])
    figures.save_png(figures.comparison_sheet(result), folder / "before_after.png")


def shown_prompts(model: DiffusionModel, config: EraseConfig) -> list[str]:
    """The concepts and, where the model has a vocabulary, two other things it can draw."""
    prompts = [t.erase_from or t.concept for t in config.concepts]
    if model.vocabulary is None:
        return prompts
    others = [c.phrase for c in model.vocabulary.of_kind("object") if c.phrase not in prompts]
    return prompts + others[:: max(1, len(others) // 2)][:2]
