"""An erasing run as a stream of what to put on the page.

Everything yields: each update, each denoising step of a preview. So Stop, which closes the
generator at its next yield, is prompt, and keeps the erasure that was yielded last.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any, NamedTuple

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import DiffusionModel, DivergenceError, EraseConfig, EraseStep, Erasure, erase
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

    def refresh(self) -> bool:
        due = time.perf_counter() - self.refreshed >= REFRESH
        if due:
            self.refreshed = time.perf_counter()
        return due

    def preview(self, step: EraseStep, total: int) -> bool:
        if step.iteration == 0:  # collecting the examples does not count as training
            self.drawn_at = time.perf_counter()
            return False
        left = step.seconds / step.iteration * (total - step.iteration)
        since = time.perf_counter() - self.drawn_at
        return since >= max(1.0, self.patience * self.cost) and left >= self.cost

    def drawn(self, begun: float) -> None:
        self.drawn_at = time.perf_counter()
        self.cost = self.drawn_at - begun
        self.patience = min(PATIENCE[1], self.patience * 1.3)


def run(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Iterator[Shown]:
    """Draw the frozen model's pictures, erase, and draw them again from the same noise."""
    name = pictures.quoted(config.concepts[0].concept)
    yield Shown(
        pictures.note(f"Drawing {name} and its controls before anything changes", done=0),
        pictures.strip(prompts, SEEDS), curve([], "loss", config.iterations),
        curve([], "error", config.iterations), None, seed=config.seed,
    )  # fmt: skip
    pace = _Pace()
    before = yield from _draw(model, prompts, pace, None, "Before", 0)
    status = pictures.note("Collecting examples from the frozen model", done=0)
    yield Shown(status, pictures.strip(prompts, SEEDS, before))
    try:
        yield from _train(model, config, prompts, pace, before)
    except DivergenceError as diverged:
        yield finished(diverged.erasure, model)
        raise


def _train(
    model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched], pace: _Pace,
    before: Tensor,
) -> Iterator[Shown]:  # fmt: skip
    """Every update; curves and what Stop keeps every REFRESH seconds; previews as `pace` allows."""
    name = pictures.quoted(config.concepts[0].concept)
    losses: list[tuple[int, float]] = []
    errors: list[tuple[int, float]] = []
    walk = Walk(config.iterations)
    for step in erase(model, config):
        walk.note(step)
        final = step.iteration == config.iterations
        if step.loss is not None:
            losses.append((step.iteration, step.loss))
        if final or pace.refresh():
            if (error := step.held_out_error()) is not None:
                errors.append((step.iteration, error))
            curves = dict(loss=curve(losses, "loss"), error=curve(errors, "error"))
            yield Shown(erasure=walk.end(step.erasure), **curves)
        yield Shown(_progress(name, step, config.iterations, errors))
        if final or pace.preview(step, config.iterations):
            done = step.iteration / max(config.iterations, 1)
            now = yield from _draw(model, prompts, pace, step, f"Update {step.iteration}", done)
            strip = pictures.strip(prompts, SEEDS, before, now, step.iteration)
            yield Shown(strip=strip, erasure=walk.end(step.erasure))
            if final:  # once more in full, for those who read only the last moment
                ending = finished(walk.end(step.erasure), model, errors[-1][1] if errors else None)
                yield ending._replace(strip=strip, seed=config.seed, **curves)


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


def _progress(name: str, step: EraseStep, total: int, errors: list[tuple[int, float]]) -> str:
    parts = [f"Erasing {name}", f"update {step.iteration} of {total}", f"{step.seconds:.1f} s"]
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
