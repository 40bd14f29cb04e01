"""What a run has shown so far: its pictures, curves and stages, from which Continue goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import Checkpoint, DiffusionModel, EraseConfig
from esd_core.study.watched_prompts import Watched
from ui.erase import presence
from ui.erase.film import Film
from ui.shared.run_stages import StageKeeper

ROWS = 300  # of a curve, at most
# The presets that repeat the authors' scripts keep none back, as those do not.
NOTHING_HELD_OUT = "Nothing to measure: this run trains on every example and holds none out."


@dataclass
class RunRecord:
    """Grows with every update; the visitor's paused run keeps it."""

    prompts: Sequence[Watched]  # of the strip; the film and `presences` add the empty one
    stages: StageKeeper
    film: Film
    before: Tensor | None = None  # pictures (prompts, seeds, 3, H, W) of the frozen model
    presences: presence.Points = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)

    def forget_after(self, update: int) -> None:
        """Drop what a run did between its last checkpoint and its stop."""
        self.losses = [point for point in self.losses if point[0] <= update]
        self.errors = [point for point in self.errors if point[0] <= update]
        self.presences = [point for point in self.presences if point[0] <= update]
        self.stages.forget_after(update)
        self.film.forget_after(update)

    def add_frame(self, model: DiffusionModel, update: int, drawn: Tensor) -> dict[str, Any]:
        """Note pictures `(prompts, seeds, 3, H, W)` of the film's prompts; what the page shows then."""
        watched = self.film.prompts
        self.film.add(update, drawn)
        scores = presence.score(model, watched, drawn[:, :1])
        self.presences = [point for point in self.presences if point[0] != update]
        self.presences += presence.points(update, watched, scores)
        return dict(film=self.film.html(), presence=presence.frame(self.presences))

    def curves(self) -> dict[str, Any]:
        """Loss and error for the page."""
        return dict(loss=curve(self.losses, "loss"), error=curve(self.errors, "error"))

    def plots(self, config: EraseConfig) -> dict[str, Any]:
        """All curves with their axes, for a run that begins or goes on."""
        why = "" if config.held_out else NOTHING_HELD_OUT
        x_lim = [0, max(config.iterations, 1)]
        return dict(
            presence=gr.LinePlot(presence.frame(self.presences), x_lim=x_lim),
            loss=gr.LinePlot(curve(self.losses, "loss"), x_lim=x_lim),
            error=gr.LinePlot(curve(self.errors, "error"), x_lim=x_lim, caption=why),
        )


@dataclass(frozen=True)
class Paused:
    """A visitor's own run at rest, to go on with."""

    checkpoint: Checkpoint
    record: RunRecord


def curve(points: list[tuple[int, float]], name: str) -> pd.DataFrame:
    """A plot's data: at most about ROWS rows, the last one always."""
    kept = points[:: len(points) // ROWS + 1]
    if points and kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    return pd.DataFrame(kept, columns=["update", name]).astype({"update": int, name: float})
