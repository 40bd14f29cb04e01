"""An erasing run as a stream of what to put on the page.

Everything yields: each update, each denoising step of a preview. So Stop, which closes the
generator at its next yield, is prompt, and keeps the erasure that was yielded last.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from html import escape
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import (
    Checkpoint,
    DiffusionModel,
    DivergenceError,
    EraseConfig,
    EraseStep,
    Erasure,
    erase,
)
from esd_core.sample import sample
from ui import pictures, session
from ui.prompts import Watched
from ui.walk import Walk

SEEDS = (1, 2)  # of the pictures watched during a run
PREVIEW: dict[str, Any] = dict(num_inference_steps=12, guidance_scale=4.0, keep_pair=False)
REFRESH = 0.4  # seconds between updates of the plots and of what Stop keeps
PATIENCE = (0.8, 10.0)  # training time between previews, in previews: at first, at most
POINTS = 300  # of a curve, at most
SKIP: Any = gr.skip()


class Shown(NamedTuple):
    """One moment, part by part as on the page; SKIP leaves a part as it is."""

    status: Any = SKIP
    strip: Any = SKIP
    loss: Any = SKIP
    error: Any = SKIP
    erasure: Any = SKIP
    download: Any = SKIP
    seed: Any = SKIP
    paused: Any = SKIP


@dataclass
class Story:
    """What a run has shown so far."""

    prompts: Sequence[Watched]
    before: Tensor  # pictures (prompts, seeds, 3, H, W) of the frozen model
    walk: Walk
    losses: list[tuple[int, float]] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)

    def forget_after(self, update: int) -> None:
        """Drop what a run did between its last checkpoint and its stop."""
        self.losses = [point for point in self.losses if point[0] <= update]
        self.errors = [point for point in self.errors if point[0] <= update]
        self.walk.forget_after(update)


@dataclass(frozen=True)
class Paused:
    """A visitor's run at rest, to go on with."""

    checkpoint: Checkpoint
    story: Story


@contextmanager
def told() -> Iterator[None]:
    """What `esd_core` refuses reaches the visitor in the same words."""
    try:
        yield
    except (ValueError, DivergenceError) as refused:
        message = escape(str(refused), quote=False)
        raise gr.Error(message, title="Not done", print_exception=False) from refused


@dataclass
class _Pace:
    """When to refresh the plots, and when another preview is worth its time."""

    refreshed: float = 0.0
    drawn_at: float = field(default_factory=time.perf_counter)
    cost: float = 0.0  # seconds of the last preview
    patience: float = PATIENCE[0]
    first: tuple[int, float] | None = None  # iteration and seconds when this sitting began

    def refresh(self) -> bool:
        due = time.perf_counter() - self.refreshed >= REFRESH
        if due:
            self.refreshed = time.perf_counter()
        return due

    def preview(self, step: EraseStep, total: int) -> bool:
        if step.loss is None:  # collecting the examples does not count as training
            self.drawn_at = time.perf_counter()
            return False
        left = step.seconds / step.iteration * (total - step.iteration)
        since = time.perf_counter() - self.drawn_at
        return since >= max(1.0, self.patience * self.cost) and left >= self.cost

    def left(self, step: EraseStep, total: int) -> str:
        """Training time to come, from the rate of this sitting's updates; previews come on top."""
        if self.first is None:
            self.first = step.iteration, step.seconds
        made, seconds = step.iteration - self.first[0], step.seconds - self.first[1]
        return f", about {seconds / made * (total - step.iteration):.0f} s left" if made else ""

    def drawn(self, begun: float) -> None:
        self.drawn_at = time.perf_counter()
        self.cost = self.drawn_at - begun
        self.patience = min(PATIENCE[1], self.patience * 1.3)


def run(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Iterator[Shown]:
    """Draw the frozen model's pictures, erase, and draw them again from the same noise."""
    name = pictures.quoted(session.named(config))
    yield Shown(
        pictures.note(f"Drawing {name} and its controls before anything changes", done=0),
        pictures.strip(prompts, SEEDS), curve([], "loss", config.iterations),
        curve([], "error", config.iterations), None, seed=config.seed, paused=None,
    )  # fmt: skip
    pace = _Pace()
    before = yield from _draw(model, prompts, pace, None, "Before", 0)
    status = pictures.note("Collecting examples from the frozen model", done=0)
    yield Shown(status, pictures.strip(prompts, SEEDS, before))
    yield from _train(model, config, Story(prompts, before, Walk(config.iterations)), pace)


def go_on(model: DiffusionModel, paused: Paused, iterations: int) -> Iterator[Shown]:
    """The run from where it stood, up to so many updates in all."""
    config = replace(paused.checkpoint.config, iterations=iterations)
    paused.story.forget_after(paused.checkpoint.iteration)
    yield Shown(
        pictures.note(f"Going on after update {paused.checkpoint.iteration}"),
        loss=curve(paused.story.losses, "loss", iterations),
        error=curve(paused.story.errors, "error", iterations),
    )
    yield from _train(model, config, paused.story, _Pace(), paused.checkpoint)


def _train(
    model: DiffusionModel, config: EraseConfig, story: Story, pace: _Pace,
    resume: Checkpoint | None = None,
) -> Iterator[Shown]:  # fmt: skip
    """Every update; curves and what Stop keeps every REFRESH seconds; previews as `pace` allows."""
    try:
        for step in erase(model, config, resume=resume):
            yield from _step(model, config, story, pace, step)
    except DivergenceError as diverged:
        yield finished(diverged.erasure, model)._replace(paused=None)
        raise


def _step(
    model: DiffusionModel, config: EraseConfig, story: Story, pace: _Pace, step: EraseStep
) -> Iterator[Shown]:
    """One update on the page."""
    final = step.iteration == config.iterations
    losses, errors = story.losses, story.errors
    story.walk.note(step)
    if step.loss is not None:
        losses.append((step.iteration, step.loss))
    kept = _kept(step, story) if final or pace.refresh() else None
    if kept:
        if (error := step.held_out_error()) is not None and (step.loss is not None or not errors):
            errors.append((step.iteration, error))
        yield Shown(**kept, **_curves(story))
    yield Shown(_progress(step, config, pace, errors))
    if final or pace.preview(step, config.iterations):
        done = step.iteration / max(config.iterations, 1)
        now = yield from _draw(model, story.prompts, pace, step, f"Update {step.iteration}", done)
        strip = pictures.strip(story.prompts, SEEDS, story.before, now, step.iteration)
        kept = kept or _kept(step, story)
        yield Shown(strip=strip, **kept)
        if final:  # once more in full, for those who read only the last moment
            ending = finished(kept["erasure"], model, errors[-1][1] if errors else None)
            yield ending._replace(
                strip=strip, seed=config.seed, paused=kept["paused"], **_curves(story)
            )


def _kept(step: EraseStep, story: Story) -> dict[str, Any]:
    """What Stop leaves the visitor with: an erasure, and the run at rest."""
    checkpoint = step.checkpoint()
    return dict(erasure=story.walk.end(checkpoint.erasure), paused=Paused(checkpoint, story))


def _curves(story: Story) -> dict[str, Any]:
    return dict(loss=curve(story.losses, "loss"), error=curve(story.errors, "error"))


def _draw(
    model: DiffusionModel, prompts: Sequence[Watched], pace: _Pace, step: EraseStep | None,
    label: str, done: float,
) -> Generator[Shown, None, Tensor]:  # fmt: skip
    """Pictures `(prompts, seeds, 3, H, W)`; yields a status at every denoising step."""
    begun = time.perf_counter()
    listed = [item.prompt for item in prompts for _ in SEEDS]
    seeds = list(SEEDS) * len(prompts)
    unet = model.unet if step is None else step.unet
    latents = None
    for at in sample(model, listed, seeds=seeds, unet=unet, **PREVIEW):
        latents = at.latents
        text = f"{label}: drawing, step {at.step + 1} of {PREVIEW['num_inference_steps']}"
        yield Shown(pictures.note(text, done=done))
    assert latents is not None
    drawn = model.decode(latents).unflatten(0, (len(prompts), len(SEEDS)))
    pace.drawn(begun)
    return drawn


def curve(points: list[tuple[int, float]], name: str, total: int | None = None) -> Any:  # noqa: ANN401
    """A plot's data: at most POINTS rows, the last one always; with `total`, its x axis too."""
    kept = points[:: len(points) // POINTS + 1]
    if points and kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    frame = pd.DataFrame(kept, columns=["update", name]).astype({"update": int, name: float})
    return frame if total is None else gr.LinePlot(frame, x_lim=[0, max(total, 1)])


def _progress(
    step: EraseStep, config: EraseConfig, pace: _Pace, errors: list[tuple[int, float]]
) -> str:
    total = config.iterations
    parts = [f"Erasing {pictures.quoted(session.named(config))}"]
    parts.append(f"update {step.iteration} of {total}")
    parts.append(f"{step.seconds:.1f} s" + pace.left(step, total))
    if step.loss is not None:
        parts.append(f"loss {step.loss:.4f}")
    if errors:
        parts.append(f"held-out error {errors[-1][1]:.2f}")
    return pictures.note(" · ".join(parts), done=step.iteration / max(total, 1))


def finished(erasure: Erasure, model: DiffusionModel, error: float | None = None) -> Shown:
    """The last word on a run that ended, or was stopped with this erasure in hand."""
    made, seconds = erasure.provenance["iterations_done"], erasure.provenance["seconds"]
    stopped = made < erasure.provenance["config"]["iterations"]
    total = sum(p.numel() for p in model.unet.parameters())
    text = (
        f"<strong>{'Stopped; what was learned is kept.' if stopped else 'Done.'}</strong> "
        f"{made} updates in {seconds:.1f} s taught the model to avoid "
        f"{pictures.quoted(session.concepts(erasure))} by changing {session.size(erasure):,} of "
        f"its {total:,} numbers."
    )
    if error is not None:
        text += f" On examples it never trained on, the error is {error:.0%} of what it was."
    status = pictures.note(text, tone="good")
    return Shown(status, erasure=erasure, download=session.download(erasure))
