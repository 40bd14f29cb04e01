"""What a run shows on the page, and its record of what it has shown, from which Continue goes on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import Checkpoint, DiffusionModel, EraseConfig, Erasure
from esd_core.study.watched_prompts import Watched
from ui.erase import curves
from ui.erase.pictures import Film
from ui.server.stream import SKIP
from ui.shared.erasure_stages import StageKeeper

NOTHING_HELD_OUT = "Nothing to measure: this run holds no examples out."
EDIT = dict(x_title="update; 0 is after the edit, −1 before it")
Curve = pd.DataFrame | gr.LinePlot


@dataclass
class RunRecord:
    """Grows with every update; the visitor's paused run keeps it."""

    prompts: Sequence[Watched]  # of the strip; the film adds the empty one
    film: Film
    stages: StageKeeper = field(default_factory=StageKeeper)
    before: Tensor | None = None  # pictures (prompts, seeds, 3, H, W) of the frozen model
    presences: curves.Presences = field(default_factory=list)
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
        self.film.add(update, drawn)
        self.presences = [point for point in self.presences if point[0] != update]
        self.presences += curves.presences(model, update, self.film.prompts, drawn[:, :1])
        return dict(film=self.film.html(), presence=curves.presence_curve(self.presences))

    def curves(self) -> dict[str, Any]:
        """Loss and error for the page."""
        return dict(loss=curves.curve(self.losses, "loss"), error=curves.curve(self.errors, "error"))

    def plots(self, config: EraseConfig) -> dict[str, Any]:
        """All curves with their axes, for a run that begins or goes on."""
        shown = {**self.curves(), "presence": curves.presence_curve(self.presences)}
        axis: dict[str, Any] = dict(x_lim=[0, max(config.iterations, 1)])
        plots = {name: gr.LinePlot(frame, **axis) for name, frame in shown.items()}
        if config.edit:
            plots["presence"] = gr.LinePlot(shown["presence"], x_lim=[-1, config.iterations], **EDIT)
        why = "" if config.held_out else NOTHING_HELD_OUT
        return plots | {"error": gr.LinePlot(shown["error"], caption=why, **axis)}


@dataclass(frozen=True)
class Paused:
    """A visitor's own run at rest, to go on with."""

    checkpoint: Checkpoint
    record: RunRecord


class RunMoment(NamedTuple):
    """What a run changes on the page, in the order of its event's outputs; SKIP leaves a part as it is."""

    status: str = SKIP
    strip: str = SKIP
    film: str = SKIP
    presence: Curve = SKIP
    loss: Curve = SKIP
    error: Curve = SKIP
    erasure: Erasure | None = SKIP
    download: str = SKIP
    seed: int = SKIP
    paused: Paused | None = SKIP
