"""What an erasing run leaves behind: one folder with everything needed to judge and repeat it:

erasure.safetensors     the changed tensors and their provenance
checkpoint.safetensors  what the next update depends on; only until the last one is made
config.json             all options; `EraseConfig.from_dict` reads it
loss.csv, loss.png      loss and held-out error by update
before_after.png        the concept, a neighbour and something unrelated, from the same noise
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import Any, Literal, NamedTuple

from esd_core.checkpoint import Checkpoint
from esd_core.config import EraseConfig
from esd_core.erasing import EraseStep
from esd_core.erasure import Erasure
from esd_core.files import write_text
from esd_core.models import DiffusionModel
from esd_core.study import figures
from esd_core.study.comparison import compare
from esd_core.study.watched_prompts import to_watch

ERASURE, CHECKPOINT, CONFIG, LOSSES = (
    "erasure.safetensors",
    "checkpoint.safetensors",
    "config.json",
    "loss.csv",
)
SEEDS = (0, 1)  # of the pictures


class Row(NamedTuple):
    """A line of loss.csv. Update 0 precedes any."""

    update: int
    loss: float | None  # before the update
    seconds: float
    examples_seen: int
    held_out_error: float | None


@dataclass
class Run:
    """What a run has measured so far, and what of it is kept."""

    model: DiffusionModel
    config: EraseConfig
    folder: Path | None = None
    rows: list[Row] = field(default_factory=list)
    erasure: Erasure | None = None  # as in the folder
    ending: Literal["done", "diverged", "stopped"] = "stopped"

    def add(self, step: EraseStep, *, measure: bool = False) -> None:
        """Note a step; the held-out error is measured about 20 times a run, and if asked for."""
        if self.rows and self.rows[-1].update == step.iteration:
            return  # where a run goes on
        total = self.config.iterations
        due = measure or step.iteration % max(1, total // 20) == 0 or step.iteration == total
        error = step.held_out_error() if due else None
        error = error if error is not None and math.isfinite(error) else None
        self.rows.append(Row(step.iteration, step.loss, round(step.seconds, 3), step.examples_seen, error))

    def save(self, erasure: Erasure, rest: Checkpoint | None = None) -> None:
        """Write, or replace, the erasure, its losses and, last, where to go on: a kill in between loses no
        line of loss.csv. Without a rest there is nothing to go on with."""
        assert self.folder is not None
        self.erasure = erasure
        erasure.save(self.folder / ERASURE)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([Row._fields, *self.rows])
        write_text(self.folder / LOSSES, table.getvalue())
        losses = [row.loss for row in self.rows if row.loss is not None]
        errors = [(row.update, row.held_out_error) for row in self.rows if row.held_out_error is not None]
        figures.save_png(figures.loss_figure(losses, errors), self.folder / "loss.png")
        if rest:
            rest.save(self.folder / CHECKPOINT)
        else:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def diverge(self, last_good: Erasure) -> None:
        """End, and keep the last good state if anything was learned by then."""
        self.ending = "diverged"
        if self.folder and last_good.provenance.get("iterations_done"):
            self.save(last_good)

    def draw(self) -> None:
        """Write the pictures before and after."""
        assert self.folder is not None and self.erasure is not None
        prompts = [watched.prompt for watched in to_watch(self.model, self.config.concepts)]
        edited, size = self.erasure.apply(self.model), self.config.image_size
        shown = compare(self.model, edited, prompts, SEEDS, image_size=size)
        figures.save_png(figures.comparison_sheet(shown), self.folder / "before_after.png")

    def summary(self) -> dict[str, Any]:
        """JSON values on what is kept: losses and errors end where the erasure does."""
        updates = self.erasure.provenance["iterations_done"] if self.erasure else 0
        rows = [row for row in self.rows if row.update <= updates]
        losses = [row.loss for row in rows if row.loss is not None]
        return {
            "ending": self.ending,
            "folder": str(self.folder) if self.folder else None,
            "files": sorted(file.name for file in self.folder.iterdir()) if self.folder else [],
            "model": self.model.name,
            "concepts": [target.concept for target in self.config.concepts],
            "train_method": self.config.train_method,
            "eta": self.config.eta,
            "updates": updates,
            "seconds": rows[-1].seconds if rows else 0.0,
            "parameters": sum(t.numel() for t in self.erasure.tensors.values()) if self.erasure else 0,
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "held_out_error": rows[-1].held_out_error if rows else None,
        }

    def text(self) -> str:
        """The summary for a reader."""
        if self.erasure is None:
            return "nothing was learned"
        facts = self.summary()
        text = f"{self.folder}\n{facts['updates']} updates in {facts['seconds']:.1f} s"
        if facts["last_loss"] is not None:
            text += f"; loss {facts['first_loss']:.4f} to {facts['last_loss']:.4f}"
        if (error := facts["held_out_error"]) is not None:
            times = f"{error:.2f}" if error < 100 else "over 100"
            text += f"; target error on held-out examples {times} times the frozen model's"
        return f"{text}; {facts['parameters']:,} parameters changed"


def slug(text: str) -> str:
    """`text` as a file name: letters and digits of any script, joined by hyphens."""
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:60] or "unnamed"


def free(path: Path) -> Path:
    """`path`, or if it is taken the first of `name-2`, `name-3`, ... that is not."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(found for found in chain([path], numbered) if not found.exists())


def writable(file: Path) -> Path:
    """The file, refused before anything is drawn or learned if it cannot be written."""
    above = next(parent for parent in file.absolute().parents if parent.exists())
    if file.is_dir() or not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{file} cannot be written; give another --out")
    return file


def new_picture(out: Path | None, name: str) -> Path:
    """Where a command's picture goes; by default to a new file under outputs/."""
    return writable(out or free(Path("outputs") / f"{slug(name)}.png"))


def check_new(folder: Path | None) -> None:
    """Raise ValueError if a run may not be written there: a former one is never touched."""
    if folder and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; give another --out")
    writable((folder or Path("outputs")) / CONFIG)


def create(config: EraseConfig, out: Path | None = None) -> Path:
    """Make a run's new folder; default `outputs/<concept>-<method>`, numbered if that is taken."""
    check_new(out)
    concepts = slug(" ".join(t.concept for t in config.concepts))
    folder = out or free(Path("outputs") / f"{concepts}-{config.train_method}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_config(folder: Path, config: EraseConfig) -> None:
    """Write all options."""
    write_text(folder / CONFIG, json.dumps(config.to_dict(), indent=1) + "\n")


def read_checkpoint(folder: Path) -> Checkpoint:
    """Where the run of this folder goes on; ValueError if it does not."""
    if not folder.is_dir():
        raise ValueError(f"--resume {folder}: there is no such folder")
    if not (folder / CHECKPOINT).exists():
        ended = (folder / ERASURE).exists()
        why = "its run has ended" if ended else "a run writes one every minute and at Ctrl-C"
        raise ValueError(f"--resume {folder}: there is no {CHECKPOINT} in it; {why}")
    return Checkpoint.load(folder / CHECKPOINT)


def read_rows(folder: Path, updates: int) -> list[Row]:
    """The lines of loss.csv up to an update."""
    with (folder / LOSSES).open(encoding="utf-8", newline="") as file:
        rows = [Row(*map(_number, line)) for line in list(csv.reader(file))[1:]]  # type: ignore[arg-type]
    return [row for row in rows if row.update <= updates]


def _number(cell: str) -> int | float | None:
    return (int(cell) if cell.isdecimal() else float(cell)) if cell else None
