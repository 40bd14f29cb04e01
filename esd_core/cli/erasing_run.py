"""An erasing run at the terminal: progress on stderr, results in a folder, safe against Ctrl-C and kills."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torch import Tensor
from tqdm import tqdm

from esd_core.checkpoint import Checkpoint
from esd_core.cli import run_folder
from esd_core.cli.options import note
from esd_core.cli.run_folder import Run
from esd_core.config import EraseConfig
from esd_core.erasing import DivergenceError, EraseStep, erase
from esd_core.models import DiffusionModel
from esd_core.parallel import ALONE, Team

SAVE_EVERY = 60.0  # seconds; a killed run loses no more than that
SAVING = 0.05  # share of its time that a run may spend on saving many weights
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


def carry_out(
    model: DiffusionModel,
    config: EraseConfig,
    *,
    images: Tensor | None = None,
    out: Path | None = None,
    rest: Checkpoint | None = None,
    team: Team = ALONE,
) -> Run:
    """Erase and write the run's folder, however the run ends.

    Args:
        images, team: as in `erasing.erase`. Only the first process writes; Ctrl-C ends all at once.
        out: the folder; default as in `run_folder.create`.
        rest: the checkpoint in `out`, to go on from.
    """
    run = Run(model, config)
    if rest and out:
        run = Run(model, config, out, run_folder.read_rows(out, rest.iteration), rest.erasure)
    steps = erase(model, config, images=images, resume=rest, team=team)
    try:
        _follow(run, steps, out, team)
    except DivergenceError as error:
        run.diverge(error.erasure)
        kept = "the last good state is kept" if run.erasure else "there is no good state to keep"
        if team.leads:
            note(f"error: {error}; {kept}")
    except KeyboardInterrupt:
        note(f"interrupted; {'what was saved before is kept' if run.erasure else 'nothing is kept'}")
        return run
    if run.folder and run.erasure:
        try:
            run.draw()
        except KeyboardInterrupt:
            note("interrupted; before_after.png is not drawn, all else is saved")
            run.ending = "stopped"
    return run


def _follow(run: Run, steps: Iterator[EraseStep], out: Path | None, team: Team) -> None:
    """Update by update; saves now and then, and at the end."""
    total, due = run.config.iterations, time.monotonic() + SAVE_EVERY
    shown = dict(
        total=total, unit="update", file=sys.stderr, leave=False, disable=None if team.leads else True
    )
    with tqdm(desc="drawing examples", **shown) as bar, CtrlC() as ctrl_c:
        for step in steps:
            complete = step.iteration == total
            if not team.leads:
                run.ending = "done" if complete else "stopped"
                continue
            if step.loss is None:  # the first
                run.folder = run.folder or run_folder.create(run.config, out)
                run_folder.write_config(run.folder, run.config)
                # Processes that stopped after different updates would wait for each other forever.
                ctrl_c.deferred = team.size == 1
            run.add(step, measure=ctrl_c.asked)
            bar.set_description("erasing" if step.loss is None else f"erasing, loss {step.loss:.4f}", False)
            bar.update(step.iteration - bar.n)
            if complete or ctrl_c.asked or time.monotonic() > due:
                began, rest = time.monotonic(), None if complete else step.checkpoint()
                run.save(rest.erasure if rest else step.erasure, rest)
                due = time.monotonic() + max(SAVE_EVERY, (time.monotonic() - began) / SAVING)
            if complete:
                run.ending = "done"
            elif ctrl_c.asked:
                note(f"stopped after {step.iteration} updates; what was learned is kept, and")
                note(f"`python -m esd_core erase --resume {run.folder}` goes on")
                return
