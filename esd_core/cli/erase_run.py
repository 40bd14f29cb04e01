"""An erasing run at the terminal: progress on stderr, results in a folder, safe against Ctrl-C."""

from __future__ import annotations

import json
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from torch import Tensor
from tqdm import tqdm

from esd_core.cli import run_folder
from esd_core.cli.command_options import note
from esd_core.config import EraseConfig
from esd_core.erasing import DivergenceError, erase
from esd_core.erasure import Erasure
from esd_core.models import DiffusionModel
from esd_core.parallel import ALONE, Team

SAVE_EVERY = 60.0  # seconds; a killed run loses no more than that
EXIT_CODES = {"done": 0, "diverged": 1, "stopped": 130}  # 130: as shells report Ctrl-C


class CtrlC:
    """Inside the `with` block, once `deferred`, Ctrl-C only sets `asked`, so that no update is cut
    in half; a second one interrupts."""

    def __init__(self) -> None:
        self.deferred = self.asked = False

    def __enter__(self) -> CtrlC:
        self._former = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._former)

    def _pressed(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.deferred:
            raise KeyboardInterrupt
        self.asked = True
        note("\nstopping after this update; Ctrl-C again quits at once")


@dataclass
class Run:
    """A run and what has come of it."""

    model: DiffusionModel
    config: EraseConfig
    record: run_folder.Record
    folder: Path | None = None  # made when the first update can begin
    erasure: Erasure | None = None
    ending: Literal["done", "diverged", "stopped"] = "stopped"

    @property
    def exit_code(self) -> int:
        """Of the process."""
        return EXIT_CODES[self.ending]

    def summary(self) -> dict[str, Any]:
        """JSON values only."""
        files = sorted(f.name for f in self.folder.iterdir()) if self.folder else []
        tensors = self.erasure.tensors.values() if self.erasure else ()
        losses, held_out = self.record.losses, self.record.held_out
        return {
            "ending": self.ending,
            "folder": str(self.folder) if self.folder else None,
            "files": files,
            "model": self.model.name,
            "concepts": [t.concept for t in self.config.concepts],
            "train_method": self.config.train_method,
            "eta": self.config.eta,
            "updates": self.erasure.provenance["iterations_done"] if self.erasure else 0,
            "seconds": self.record.rows[-1][2] if self.record.rows else 0.0,
            "parameters": sum(t.numel() for t in tensors),
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "held_out_error": held_out[-1][1] if held_out else None,
        }

    def json(self) -> str:
        """The summary for a script."""
        return json.dumps(self.summary())

    def text(self) -> str:
        """The summary for a reader."""
        facts = self.summary()
        if self.erasure is None:
            return "nothing was learned"
        parts = [f"{facts['updates']} updates in {facts['seconds']:.1f} s"]
        if facts["first_loss"] is not None:
            parts.append(f"loss {facts['first_loss']:.4f} to {facts['last_loss']:.4f}")
        if facts["held_out_error"] is not None:
            parts.append(f"target error on held-out examples {facts['held_out_error']:.2f} times")
            parts[-1] += " the frozen model's"
        parts.append(f"{facts['parameters']:,} parameters changed")
        return f"{self.folder}\n{'; '.join(parts)}"


def run(
    model: DiffusionModel,
    config: EraseConfig,
    *,
    images: Tensor | None = None,
    out: Path | None = None,
    team: Team = ALONE,
) -> Run:
    """Erase and write the run's folder, however the run ends.

    Args:
        images: as in `erase.erase`.
        out: the folder to make; default as in `run_folder.create`.
        team: as in `erase.erase`. Only the first process writes; Ctrl-C ends all at once.
    """
    made = Run(model, config, run_folder.Record(config.iterations))
    try:
        _train(made, images, out, team)
    except DivergenceError as error:
        made.ending = "diverged"
        made.erasure = error.erasure if error.erasure.tensors else None
        kept = "the last good state is kept" if made.erasure else "there is no good state to keep"
        note(f"error: {error}; {kept}")
        if made.folder and made.erasure:
            run_folder.save(made.folder, made.erasure, made.record)
    except KeyboardInterrupt:
        kept = "what was saved before is kept" if made.erasure else "nothing is kept"
        note(f"interrupted; {kept}")
        return made
    if made.folder and made.erasure:
        try:
            run_folder.draw(made.folder, model, config, made.erasure)
        except KeyboardInterrupt:
            note("interrupted; before_after.png is not drawn, all else is saved")
            made.ending = "stopped"
    return made


def _train(made: Run, images: Tensor | None, out: Path | None, team: Team) -> None:
    """Update by update; saves now and then, and at the end."""
    config, record, saved = made.config, made.record, time.monotonic()
    bar = tqdm(
        total=config.iterations,
        desc="drawing examples",
        unit="update",
        file=sys.stderr,
        disable=None if team.leads else True,
        leave=False,
    )
    with bar, CtrlC() as ctrl_c:
        for step in erase(made.model, config, images=images, team=team):
            complete = step.iteration == config.iterations
            if not team.leads:
                made.ending = "done" if complete else "stopped"
                continue
            if made.folder is None:
                # Processes that stopped after different updates would wait for each other forever.
                made.folder, ctrl_c.deferred = run_folder.create(config, out), team.size == 1
                bar.set_description("erasing")
            record.add(step, measure=ctrl_c.asked)
            if step.loss is not None:
                bar.update()
                bar.set_postfix_str(f"loss {step.loss:.4f}")
            if complete or ctrl_c.asked or time.monotonic() - saved > SAVE_EVERY:
                made.erasure, saved = step.erasure, time.monotonic()
                run_folder.save(made.folder, made.erasure, record)
            if complete:
                made.ending = "done"
            elif ctrl_c.asked:
                note(f"stopped after {step.iteration} updates; what was learned is kept")
                return
