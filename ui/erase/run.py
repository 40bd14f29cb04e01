"""An erasing run as a stream of what to put on the page.

Everything yields: each update, each denoising step of a preview. So Stop, which ends the stream at
its next yield, is prompt, and keeps the erasure that was yielded last.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

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
from ui.erase.run_record import Paused, RunRecord
from ui.server import memory
from ui.shared import erasure_text, pictures, timing
from ui.shared.run_stages import StageKeeper

# Whoever tries another eta, method or rate on the same concept does not wait for the teacher again.
EXAMPLES = KeptExamples(runs=preview.RUNS)


def run(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Iterator[RunMoment]:
    """Draw the frozen model's pictures, erase, and draw them again from the same noise."""
    film = Film(presence.with_empty(prompts), SEEDS[0], config.iterations)
    record = RunRecord(prompts, StageKeeper(config.iterations), film)
    sitting = Sitting(model, config, record, RunClock(config.iterations))
    text = f"Drawing {pictures.quoted(erasure_text.of_run(config))} and its controls before anything changes"
    yield RunMoment(
        pictures.note(text, done=0),
        pictures.strip(prompts, SEEDS),
        film="",
        erasure=None,
        seed=config.seed,
        paused=None,
        **record.plots(config),
    )
    before = yield from sitting.draw(None)
    record.before = before[: len(prompts)]
    status = pictures.note("Collecting examples from the frozen model", done=0)
    strip = pictures.strip(prompts, SEEDS, record.before)
    yield RunMoment(status, strip, **record.add_frame(model, 0, before))
    yield from sitting.train()


def go_on(model: DiffusionModel, paused: Paused, iterations: int) -> Iterator[RunMoment]:
    """The run from where it stood, up to so many updates in all."""
    checkpoint, record = paused.checkpoint, paused.record
    config, made = replace(checkpoint.config, iterations=iterations), checkpoint.iteration
    record.forget_after(made)
    record.stages.extend(iterations, checkpoint.erasure)
    record.film.iterations = iterations
    text = f"Going on after update {made}, with the settings that the run began with"
    yield RunMoment(pictures.note(text), film=record.film.html(), **record.plots(config))
    yield from Sitting(model, config, record, RunClock(iterations)).train(checkpoint)


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


@dataclass
class Sitting:
    """A run from Erase, or Continue, to its end or Stop."""

    model: DiffusionModel
    config: EraseConfig
    record: RunRecord
    clock: RunClock

    def train(self, resume: Checkpoint | None = None) -> Iterator[RunMoment]:
        """Every update; curves and what Stop keeps now and then; frames as the film wants."""
        examples = EXAMPLES.find(self.model, self.config)
        if examples is None and resume is None and collectable(self.config):
            examples = yield from self._collect()
        try:
            for step in erase(self.model, self.config, resume=resume, examples=examples):
                if memory.tensor_bytes(step.examples) <= memory.EXAMPLES:
                    EXAMPLES.keep(step.examples)
                yield from self._show(step)
        except DivergenceError as diverged:
            yield finished(diverged.erasure, self.model)._replace(paused=None)
            raise

    def _collect(self) -> Generator[RunMoment, None, Examples]:
        """The teacher's examples, with a status between its calls."""
        collecting = collect(self.model, self.config)
        while True:
            try:
                next(collecting)
            except StopIteration as end:
                return end.value
            text = f"Collecting examples from the frozen model · {self.clock.text(0)}"
            yield RunMoment(pictures.note(text, done=0))

    def _show(self, step: EraseStep) -> Iterator[RunMoment]:
        """One update on the page; step 0 is the run's beginning, and a resumed run's first its last."""
        record, left = self.record, dict[str, Any]()
        final, made = step.iteration == self.config.iterations, step.loss is not None
        self.clock.note(step)
        record.stages.note(step)
        if step.loss is not None:
            record.losses.append((step.iteration, step.loss))
        if final or not made or self.clock.refresh():
            if (error := step.held_out_error()) is not None and (made or not record.errors):
                record.errors.append((step.iteration, error))
            left = self._left(step) if final or made else {}  # a run that has just begun leaves nothing new
            yield RunMoment(self._progress(step), **left, **record.curves())
        else:
            yield RunMoment(self._progress(step))
        if final or (made and record.film.due(step.iteration, self.clock.update, self.clock.frame)):
            yield from self._frame(step, final, left or self._left(step))

    def _frame(self, step: EraseStep, final: bool, left: dict[str, Any]) -> Iterator[RunMoment]:
        """Pictures of the edited model; the final ones with the last word on the run."""
        record, prompts = self.record, self.record.prompts
        now = yield from self.draw(step, SEEDS if final else SEEDS[:1])
        strip = pictures.strip(prompts, SEEDS, record.before, now[: len(prompts)], step.iteration)
        seen = dict(strip=strip, **record.add_frame(self.model, step.iteration, now))
        yield RunMoment(**left, **seen)
        if final:  # once more in full, for those who read only the last moment
            examples = estimate.examples(self.config)
            timing.correct(self.model, self.config.train_method, examples, self.clock.update)
            error = record.errors[-1][1] if record.errors else None
            yield finished(left["erasure"], self.model, error)._replace(
                seed=self.config.seed, paused=left["paused"], **record.curves(), **seen
            )

    def _left(self, step: EraseStep) -> dict[str, Any]:
        """What Stop leaves the visitor with: an erasure and, unless it is huge, the run at rest."""
        checkpoint = step.checkpoint()
        rests = memory.tensor_bytes(checkpoint) <= memory.RESTING
        erasure = self.record.stages.end(checkpoint.erasure)
        return dict(erasure=erasure, paused=Paused(checkpoint, self.record) if rests else None)

    def draw(
        self, step: EraseStep | None, seeds: Sequence[int] = SEEDS
    ) -> Generator[RunMoment, None, Tensor]:
        """The film's prompts, `(prompts, seeds, 3, H, W)`; yields a status at every denoising step."""
        unet, label = (step.unet, f"Update {step.iteration}") if step else (self.model.unet, "Before")
        done = step.iteration / max(self.config.iterations, 1) if step else 0
        film = self.record.film

        def status(made: int) -> RunMoment:
            text = f"{label}: drawing, step {made} of {preview.STEPS} · {self.clock.text(film.every)}"
            return RunMoment(pictures.note(text, done=done))

        with self.clock.drawing():
            return (yield from preview.draw(self.model, unet, film.wanted, seeds, status))

    def _progress(self, step: EraseStep) -> str:
        total, errors = self.config.iterations, self.record.errors
        parts = [
            f"Erasing {pictures.quoted(erasure_text.of_run(self.config))}",
            f"update {step.iteration} of {total}",
            self.clock.text(self.record.film.every),
        ]
        parts += [] if step.loss is None else [f"loss {step.loss:.4f}"]
        parts += [f"held-out error {errors[-1][1]:.2f}"] if errors else []
        return pictures.note(" · ".join(parts), done=step.iteration / max(total, 1))


def finished(erasure: Erasure, model: DiffusionModel, error: float | None = None) -> RunMoment:
    """The last word on a run that ended, or was stopped with this erasure in hand."""
    made, seconds = erasure.provenance["iterations_done"], erasure.provenance["seconds"]
    stopped = made < erasure.provenance["config"]["iterations"]
    total = sum(p.numel() for p in model.unet.parameters())
    changed = sum(t.numel() for t in erasure.tensors.values())
    text = (
        f"<strong>{'Stopped; what was learned is kept.' if stopped else 'Done.'}</strong> "
        f"{made} updates in {seconds:.1f} s taught the model to avoid {erasure_text.quoted(erasure)} "
        f"by changing {changed:,} of its {total:,} numbers."
    )
    if error is not None:
        text += f" On examples it never trained on, the error is {error:.0%} of what it was."
    status = pictures.note(text, tone="good")
    return RunMoment(status, erasure=erasure, download=erasure_text.download(erasure))
