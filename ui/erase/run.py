"""An erasing run as a stream of what to put on the page.

Everything yields: each update, each denoising step of a preview. So Stop, which ends the stream at
its next yield, is prompt, and keeps the erasure that was yielded last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

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
    KeptExamples,
    erase,
)
from esd_core.examples import Examples, collect, collectable
from esd_core.study.watched_prompts import Watched
from ui.erase import estimate, presence, preview
from ui.erase.film import Film
from ui.erase.moment import RunMoment
from ui.erase.preview import SEEDS
from ui.erase.run_clock import RunClock
from ui.server import memory
from ui.shared import erasure_text, pictures, timing
from ui.shared.run_stages import StageKeeper

# The presets that repeat the authors' scripts keep none back, as those do not.
NOTHING_HELD_OUT = "Nothing to measure: this run trains on every example and holds none out."
POINTS = 300  # of a curve, at most
# Whoever tries another eta, method or rate on the same concept does not wait for the teacher again.
EXAMPLES = KeptExamples(runs=preview.RUNS)


@dataclass
class Story:
    """What a run has shown so far."""

    prompts: Sequence[Watched]  # of the strip; the film and `presences` add the empty one
    before: Tensor  # pictures (prompts, seeds, 3, H, W) of the frozen model
    walk: StageKeeper
    film: Film
    presences: presence.Points = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    errors: list[tuple[int, float]] = field(default_factory=list)

    def forget_after(self, update: int) -> None:
        """Drop what a run did between its last checkpoint and its stop."""
        self.losses = [point for point in self.losses if point[0] <= update]
        self.errors = [point for point in self.errors if point[0] <= update]
        self.presences = [point for point in self.presences if point[0] <= update]
        self.walk.forget_after(update)
        self.film.forget_after(update)

    def keep_frame(self, model: DiffusionModel, update: int, drawn: Tensor) -> dict[str, Any]:
        """Note pictures `(prompts, seeds, 3, H, W)` of the edited model; what the first show."""
        watched = self.film.prompts
        self.film.add(update, drawn)
        scores = presence.score(model, watched, drawn[:, :1])
        self.presences = [point for point in self.presences if point[0] != update]
        self.presences += presence.points(update, watched, scores)
        return dict(film=self.film.html(), presence=presence.frame(self.presences))


@dataclass(frozen=True)
class Paused:
    """A visitor's run at rest, to go on with."""

    checkpoint: Checkpoint
    story: Story


def run(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Iterator[RunMoment]:
    """Draw the frozen model's pictures, erase, and draw them again from the same noise."""
    name, clock = pictures.quoted(erasure_text.of_run(config)), RunClock(config.iterations)
    film = Film(presence.with_empty(prompts), SEEDS[0], config.iterations)
    yield RunMoment(
        pictures.note(f"Drawing {name} and its controls before anything changes", done=0),
        pictures.strip(prompts, SEEDS),
        "",
        over(presence.frame([]), config.iterations),
        curve([], "loss", config.iterations),
        errors([], config),
        None,
        seed=config.seed,
        paused=None,
    )
    before = yield from _draw(model, film, clock, None)
    story = Story(prompts, before[: len(prompts)], StageKeeper(config.iterations), film)
    status = pictures.note("Collecting examples from the frozen model", done=0)
    yield RunMoment(
        status, pictures.strip(prompts, SEEDS, before[: len(prompts)]), **story.keep_frame(model, 0, before)
    )
    yield from _train(model, config, story, clock)


def prepare(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Tensor:
    """Do beforehand what the run would wait for; its pictures `(prompts, seeds, 3, H, W)` before.

    Nothing here is for the page: a part of it made while the page is laid out would stay in it.
    """
    watched = [item.prompt for item in presence.with_empty(prompts)]
    for _ in preview.draw(model, model.unet, watched, SEEDS, int):
        pass
    with closing(erase(model, config)) as run:
        EXAMPLES.keep(next(run).examples)
    presence.judge(model)
    drawn = preview.known(model, watched)
    assert drawn is not None
    return drawn[: len(prompts)]


def go_on(model: DiffusionModel, paused: Paused, iterations: int) -> Iterator[RunMoment]:
    """The run from where it stood, up to so many updates in all."""
    config, story = replace(paused.checkpoint.config, iterations=iterations), paused.story
    made = paused.checkpoint.iteration
    story.forget_after(made)
    story.walk.extend(iterations, paused.checkpoint.erasure)
    yield RunMoment(
        pictures.note(f"Going on after update {made}, with the settings that the run began with"),
        film=story.film.html(),
        presence=over(presence.frame(story.presences), iterations),
        loss=curve(story.losses, "loss", iterations),
        error=errors(story.errors, config),
    )
    yield from _train(model, config, story, RunClock(iterations), paused.checkpoint)


def _train(
    model: DiffusionModel,
    config: EraseConfig,
    story: Story,
    clock: RunClock,
    resume: Checkpoint | None = None,
) -> Iterator[RunMoment]:
    """Every update; curves and what Stop keeps every REFRESH seconds; frames as the film wants."""
    examples = EXAMPLES.find(model, config)
    if examples is None and resume is None and collectable(config):
        examples = yield from _collect(model, config, clock)
    try:
        for step in erase(model, config, resume=resume, examples=examples):
            if memory.tensor_bytes(step.examples) <= memory.EXAMPLES:
                EXAMPLES.keep(step.examples)
            yield from _step(model, config, story, clock, step)
    except DivergenceError as diverged:
        yield finished(diverged.erasure, model)._replace(paused=None)
        raise


def _collect(
    model: DiffusionModel, config: EraseConfig, clock: RunClock
) -> Generator[RunMoment, None, Examples]:
    """The teacher's examples, with a status between its calls."""
    collecting = collect(model, config)
    while True:
        try:
            next(collecting)
        except StopIteration as end:
            return end.value
        text = f"Collecting examples from the frozen model · {clock.text(0)}"
        yield RunMoment(pictures.note(text, done=0))


def _step(
    model: DiffusionModel, config: EraseConfig, story: Story, clock: RunClock, step: EraseStep
) -> Iterator[RunMoment]:
    """One update on the page."""
    final = step.iteration == config.iterations
    losses, errors = story.losses, story.errors
    clock.note(step)
    story.walk.note(step)
    if step.loss is not None:
        losses.append((step.iteration, step.loss))
    made, kept = step.loss is not None, dict[str, Any]()
    if final or not made or clock.refresh():
        if (error := step.held_out_error()) is not None and (made or not errors):
            errors.append((step.iteration, error))
        if final or made:  # a run that has just begun leaves nothing new
            kept = _kept(step, story)
        yield RunMoment(_progress(step, config, clock, story), **kept, **_curves(story))
    else:
        yield RunMoment(_progress(step, config, clock, story))
    if final or _frame_due(step, config, clock, story):
        now = yield from _draw(model, story.film, clock, step, SEEDS if final else SEEDS[:1])
        strip = pictures.strip(story.prompts, SEEDS, story.before, now[: len(story.prompts)], step.iteration)
        kept, seen = kept or _kept(step, story), story.keep_frame(model, step.iteration, now)
        yield RunMoment(strip=strip, **kept, **seen)
        if final:  # once more in full, for those who read only the last moment
            timing.correct(model, config.train_method, estimate.examples(config), clock.update)
            ending = finished(kept["erasure"], model, errors[-1][1] if errors else None)
            yield ending._replace(
                strip=strip, seed=config.seed, paused=kept["paused"], **_curves(story), **seen
            )


def _frame_due(step: EraseStep, config: EraseConfig, clock: RunClock, story: Story) -> bool:
    """Whether the film wants a frame, and the last one is not too near."""
    near = config.iterations - step.iteration < story.film.every / 2
    made = step.loss is not None  # else the run begins, or goes on where it has been drawn
    return made and not near and story.film.due(step.iteration, clock.update, clock.frame)


def _kept(step: EraseStep, story: Story) -> dict[str, Any]:
    """What Stop leaves the visitor with: an erasure and, unless it is huge, the run at rest."""
    checkpoint = step.checkpoint()
    rests = memory.tensor_bytes(checkpoint) <= memory.RESTING
    return dict(
        erasure=story.walk.end(checkpoint.erasure), paused=Paused(checkpoint, story) if rests else None
    )


def _curves(story: Story) -> dict[str, Any]:
    return dict(loss=curve(story.losses, "loss"), error=curve(story.errors, "error"))


def _draw(
    model: DiffusionModel,
    film: Film,
    clock: RunClock,
    step: EraseStep | None,
    own_seeds: Sequence[int] = SEEDS,
) -> Generator[RunMoment, None, Tensor]:
    """Pictures `(prompts, seeds, 3, H, W)`; yields a status at every denoising step."""
    unet, label = (model.unet, "Before") if step is None else (step.unet, f"Update {step.iteration}")
    done = step.iteration / max(clock.total, 1) if step else 0

    def status(made: int) -> RunMoment:
        text = f"{label}: drawing, step {made} of {preview.STEPS} · {clock.text(film.every)}"
        return RunMoment(pictures.note(text, done=done))

    with clock.drawing():
        return (yield from preview.draw(model, unet, film.wanted, own_seeds, status))


def curve(points: list[tuple[int, float]], name: str, total: int | None = None) -> Any:  # noqa: ANN401
    """A plot's data: at most POINTS rows, the last one always; with `total`, its x axis too."""
    kept = points[:: len(points) // POINTS + 1]
    if points and kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    frame = pd.DataFrame(kept, columns=["update", name]).astype({"update": int, name: float})
    return frame if total is None else over(frame, total)


def errors(points: list[tuple[int, float]], config: EraseConfig) -> gr.LinePlot:
    """The error's plot for a run; where it stays empty, it says why."""
    frame, why = curve(points, "error"), "" if config.held_out else NOTHING_HELD_OUT
    return gr.LinePlot(frame, x_lim=[0, max(config.iterations, 1)], caption=why)


def over(frame: pd.DataFrame, total: int) -> gr.LinePlot:
    """A plot's data, and its x axis for a run of `total` updates."""
    return gr.LinePlot(frame, x_lim=[0, max(total, 1)])


def _progress(step: EraseStep, config: EraseConfig, clock: RunClock, story: Story) -> str:
    total = config.iterations
    parts = [f"Erasing {pictures.quoted(erasure_text.of_run(config))}"]
    parts.append(f"update {step.iteration} of {total}")
    parts.append(clock.text(story.film.every))
    if step.loss is not None:
        parts.append(f"loss {step.loss:.4f}")
    if story.errors:
        parts.append(f"held-out error {story.errors[-1][1]:.2f}")
    return pictures.note(" · ".join(parts), done=step.iteration / max(total, 1))


def finished(erasure: Erasure, model: DiffusionModel, error: float | None = None) -> RunMoment:
    """The last word on a run that ended, or was stopped with this erasure in hand."""
    made, seconds = erasure.provenance["iterations_done"], erasure.provenance["seconds"]
    stopped = made < erasure.provenance["config"]["iterations"]
    total = sum(p.numel() for p in model.unet.parameters())
    changed = sum(t.numel() for t in erasure.tensors.values())
    text = (
        f"<strong>{'Stopped; what was learned is kept.' if stopped else 'Done.'}</strong> "
        f"{made} updates in {seconds:.1f} s taught the model to avoid "
        f"{pictures.quoted(erasure_text.concepts(erasure))} by changing {changed:,} of "
        f"its {total:,} numbers."
    )
    if error is not None:
        text += f" On examples it never trained on, the error is {error:.0%} of what it was."
    status = pictures.note(text, tone="good")
    return RunMoment(status, erasure=erasure, download=erasure_text.download(erasure))
