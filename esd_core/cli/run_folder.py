"""What an erasing run leaves behind: one folder with everything needed to judge and repeat it:

erasure.safetensors   the changed tensors and their provenance
config.json           all options; `EraseConfig.from_dict` reads it
loss.csv, loss.png    loss and held-out error by update
before_after.png      the concept, a neighbour and something unrelated, from the same noise
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from esd_core.config import EraseConfig
from esd_core.erasing import EraseStep
from esd_core.erasure import Erasure
from esd_core.files import write_text
from esd_core.models import DiffusionModel
from esd_core.study import figures
from esd_core.study.comparison import compare
from esd_core.study.watched_prompts import to_watch

COLUMNS = ("update", "loss", "seconds", "examples_seen", "held_out_error")
SEEDS = (0, 1)  # of the pictures


@dataclass
class Record:
    """What a run measured, update by update, from update 0 (before any)."""

    total: int  # updates planned
    rows: list[tuple[int, float | None, float, int, float | None]] = field(default_factory=list)

    def add(self, step: EraseStep, *, measure: bool = False) -> None:
        """Note a step; the held-out error is measured about 20 times a run, and if asked for."""
        due = step.iteration % max(1, self.total // 20) == 0 or step.iteration == self.total
        error = step.held_out_error() if due or measure else None
        row = (step.iteration, step.loss, round(step.seconds, 3), step.examples_seen, error)
        self.rows.append(row)

    @property
    def losses(self) -> list[float]:
        """One per update."""
        return [row[1] for row in self.rows if row[1] is not None]

    @property
    def held_out(self) -> list[tuple[int, float]]:
        """(update, error) where it was measured."""
        return [(row[0], row[4]) for row in self.rows if row[4] is not None]

    @property
    def csv(self) -> str:
        """A table with a header; unmeasured cells are empty."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([COLUMNS, *self.rows])
        return text.getvalue()


def slug(text: str) -> str:
    """`text` as a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def free(path: Path) -> Path:
    """`path`, or if it is taken the first of `name-2`, `name-3`, ... that is not."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found


def create(config: EraseConfig, out: Path | None = None) -> Path:
    """Make the folder and write the options into it; a former run is never touched.

    Args:
        out: where; default `outputs/<concept>-<method>`, numbered if that is taken.

    Raises:
        ValueError: `out` exists and is not an empty folder.
    """
    check_new(out)
    concepts = slug(" ".join(t.concept for t in config.concepts))
    folder = out or free(Path("outputs") / f"{concepts}-{config.train_method}")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "config.json", json.dumps(config.to_dict(), indent=1) + "\n")
    return folder


def check_new(folder: Path | None) -> None:
    """Raise ValueError if a run may not be written there."""
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; give another --out")


def save(folder: Path, erasure: Erasure, record: Record) -> None:
    """Write, or replace, the erasure and its losses."""
    erasure.save(folder / "erasure.safetensors")
    write_text(folder / "loss.csv", record.csv)
    figures.save_png(figures.loss_figure(record.losses, record.held_out), folder / "loss.png")


def draw(folder: Path, model: DiffusionModel, config: EraseConfig, erasure: Erasure) -> None:
    """Write the pictures before and after."""
    prompts = [watched.prompt for watched in to_watch(model, config.concepts)]
    shown = compare(model, erasure.apply(model), prompts, SEEDS, image_size=config.image_size)
    figures.save_png(figures.comparison_sheet(shown), folder / "before_after.png")
