"""An erasing run at the terminal: safe against Ctrl-C and kills, it leaves one folder with everything needed
to judge and repeat it:

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
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from esd_core.cli.options import note
from esd_core.config import EraseConfig
from esd_core.erasing import DivergenceError, EraseStep
from esd_core.erasure import Erasure
from esd_core.models import DiffusionModel
from esd_core.run_state import Checkpoint
from esd_core.study import figures
from esd_core.study.comparison import compare
from esd_core.study.watched_prompts import to_watch
from esd_core.support.files import write_text
from esd_core.support.parallel import ALONE, Team

ERASURE, CHECKPOINT = "erasure.safetensors", "checkpoint.safetensors"
LOSSES = "loss.csv"
SAVE_EVERY = 60.0  # seconds; a killed run loses no more than that
SAVING = 0.05  # share of its time that a run may spend on saving many weights
EXIT_CODES = {"done": 0, "diverged": 1, "stopped": 130}  # 130: as shells report Ctrl-C


@dataclass
class Run:
    """What a run has measured so far, and what of it is kept."""

    model: DiffusionModel
    config: EraseConfig
    folder: Path  # made at the first step
    rows: list[dict[str, Any]] = field(default_factory=list)  # lines of loss.csv; update 0 precedes any
    erasure: Erasure | None = None  # as in the folder
    ending: Literal["done", "diverged", "stopped"] = "stopped"

    def add(self, step: EraseStep, *, measure: bool = False) -> None:
        """Note a step, and all options with the first; the held-out error is measured about 20 times a run,
        and if asked for."""
        if step.loss is None:
            write_text(self.folder / "config.json", json.dumps(self.config.to_dict(), indent=1) + "\n")
        if self.rows and self.rows[-1]["update"] == step.iteration:
            return  # where a run goes on
        total = self.config.iterations
        due = measure or step.iteration % max(1, total // 20) == 0 or step.iteration == total
        error = step.held_out_error() if due else None
        error = error if error is not None and math.isfinite(error) else None
        row = {"update": step.iteration, "loss": step.loss, "seconds": round(step.seconds, 3)}
        self.rows.append({**row, "examples_seen": step.examples_seen, "held_out_error": error})

    def save(self, erasure: Erasure, rest: Checkpoint | None = None) -> None:
        """Write, or replace, the erasure, its losses and, last, where to go on: a kill in between loses no
        line of loss.csv. Without a rest there is nothing to go on with."""
        self.erasure = erasure
        erasure.save(self.folder / ERASURE)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([self.rows[0], *(row.values() for row in self.rows)])
        write_text(self.folder / LOSSES, table.getvalue())
        losses = [loss for row in self.rows if (loss := row["loss"]) is not None]
        errors = [(row["update"], e) for row in self.rows if (e := row["held_out_error"]) is not None]
        figures.save_png(figures.loss_figure(losses, errors), self.folder / "loss.png")
        if rest:
            rest.save(self.folder / CHECKPOINT)
        else:
            (self.folder / CHECKPOINT).unlink(missing_ok=True)

    def go_on(self, rest: Checkpoint) -> None:
        """From a checkpoint in the folder, with the lines of its loss.csv up to there."""
        with (self.folder / LOSSES).open(encoding="utf-8", newline="") as file:
            rows = [{k: json.loads(v or "null") for k, v in row.items()} for row in csv.DictReader(file)]
        self.rows, self.erasure = [row for row in rows if row["update"] <= rest.iteration], rest.erasure

    def diverge(self, last_good: Erasure) -> None:
        """End, and keep the last good state if anything was learned by then."""
        self.ending = "diverged"
        if last_good.provenance.get("iterations_done"):
            self.save(last_good)

    def draw(self) -> None:
        """Write the pictures before and after."""
        assert self.erasure is not None
        prompts = [watched.prompt for watched in to_watch(self.model, self.config.concepts)]
        edited, size = self.erasure.apply(self.model), self.config.image_size
        shown = compare(self.model, edited, prompts, (0, 1), image_size=size)
        figures.save_png(figures.comparison_sheet(shown), self.folder / "before_after.png")

    def summary(self) -> dict[str, Any]:
        """JSON values on what is kept: losses and errors end where the erasure does."""
        updates = self.erasure.provenance["iterations_done"] if self.erasure else 0
        rows = [row for row in self.rows if row["update"] <= updates]
        losses = [loss for row in rows if (loss := row["loss"]) is not None]
        return {
            "ending": self.ending,
            "folder": str(self.folder) if self.folder.exists() else None,
            "files": sorted(file.name for file in self.folder.glob("*")),
            "model": self.model.name,
            "concepts": [target.concept for target in self.config.concepts],
            "train_method": self.config.train_method,
            "eta": self.config.eta,
            "updates": updates,
            "seconds": rows[-1]["seconds"] if rows else 0.0,
            "parameters": sum(t.numel() for t in self.erasure.tensors.values()) if self.erasure else 0,
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "held_out_error": rows[-1]["held_out_error"] if rows else None,
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
            text += f"; target error on held-out examples {error:.3g} times the frozen model's"
        return f"{text}; {facts['parameters']:,} parameters learned"


def read_checkpoint(folder: Path) -> Checkpoint:
    """Where the run of this folder goes on; ValueError if it does not."""
    if not (folder / CHECKPOINT).exists():
        ended = (folder / ERASURE).exists()
        why = "its run has ended" if ended else "a run writes one every minute and at Ctrl-C"
        raise ValueError(f"--resume {folder}: there is no {folder / CHECKPOINT}; {why}")
    return Checkpoint.load(folder / CHECKPOINT)


class CtrlC:
    """Inside the `with` block, once `deferred`, Ctrl-C only sets `asked`, so that no update is cut
    in half; a second one interrupts."""

    deferred = asked = False

    def __enter__(self) -> CtrlC:
        self._former = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def _pressed(self, *_: object) -> None:
        if self.asked or not self.deferred:
            raise KeyboardInterrupt
        self.asked = True
        note("\nstopping after this update; Ctrl-C again quits at once")


def carry_out(run: Run, steps: Iterator[EraseStep], team: Team = ALONE) -> None:
    """Follow `erase` and write the run's folder, however the run ends. Of several processes only the first
    writes; Ctrl-C ends all at once."""
    try:
        try:
            _follow(run, steps, team)
        except DivergenceError as error:
            run.ending = "diverged"
            if team.leads:
                run.diverge(error.erasure)
                kept = "the last good state is kept" if run.erasure else "there is no good state to keep"
                note(f"error: {error}; {kept}")
        if run.erasure:
            run.draw()
    except KeyboardInterrupt:
        run.ending = "stopped"
        kept = "what was saved before is kept, without before_after.png" if run.erasure else "nothing is kept"
        note(f"interrupted; {kept}")


def _follow(run: Run, steps: Iterator[EraseStep], team: Team) -> None:
    """Update by update; saves now and then, and at the end."""
    total, due = run.config.iterations, time.monotonic() + SAVE_EVERY
    shown = dict(total=total, unit="update", file=sys.stderr, leave=False)
    with (
        tqdm(desc="drawing examples", disable=None if team.leads else True, **shown) as bar,
        CtrlC() as ctrl_c,
    ):
        for step in steps:
            complete = step.iteration == total
            run.ending = "done" if complete else "stopped"
            if not team.leads:
                continue
            # Processes that stopped after different updates would wait for each other forever.
            ctrl_c.deferred = team.size == 1
            run.add(step, measure=ctrl_c.asked)
            bar.set_description("erasing" if step.loss is None else f"erasing, loss {step.loss:.4f}", False)
            bar.update(step.iteration - bar.n)
            if complete or ctrl_c.asked or time.monotonic() > due:
                began, rest = time.monotonic(), None if complete else step.checkpoint()
                run.save(rest.erasure if rest else step.erasure, rest)
                due = time.monotonic() + max(SAVE_EVERY, (time.monotonic() - began) / SAVING)
            if ctrl_c.asked and not complete:
                note(f"stopped after {step.iteration} updates; what was learned is kept, and")
                note(f"`python -m esd_core erase --resume {run.folder}` goes on")
                return
