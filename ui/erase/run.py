"""An erasing run as a stream of what to put on the page.

Everything yields: each update, each denoising step of a preview. So Stop, which ends the stream at
its next yield, is prompt, and keeps the erasure that was yielded last.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from esd_core import Checkpoint, DiffusionModel, DivergenceError, EraseConfig, EraseStep, Erasure, erase
from esd_core.examples import KeptExamples, collect
from esd_core.exchange.card import config_of, updates
from esd_core.objective import eta_to_official
from esd_core.sampling import finish
from esd_core.study.watched_prompts import Watched
from ui.erase import curves, pictures
from ui.erase.pictures import BEFORE, SEEDS, Film, strip
from ui.erase.run_record import Paused, RunMoment, RunRecord
from ui.server import memory, stream
from ui.shared import erasure_text, markup
from ui.shared.timing import duration

MOST_WATCHED = 3  # concepts in the film
REFRESH = 0.8  # seconds between updates of the plots and of what Stop keeps
# Whoever tries another eta, method or rate on the same concept does not wait for the teacher again.
EXAMPLES = KeptExamples(runs=pictures.RUNS)


def run(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Iterator[RunMoment]:
    """Draw the frozen model's pictures, erase, and draw them again from the same noise."""
    record = RunRecord(prompts, Film(curves.with_empty(prompts), SEEDS[0], config.iterations))
    sitting = Sitting(model, config, record)
    text = f"Drawing {markup.quoted(erasure_text.of_run(config))} and its controls before anything changes"
    empty: dict[str, Any] = dict(film="", erasure=None, seed=config.seed, paused=None)
    yield RunMoment(markup.note(text, done=0), strip(prompts, SEEDS), **empty, **record.plots(config))
    before = yield from sitting.draw(None)
    record.before = before[: len(prompts)]
    status = markup.note("Collecting examples from the frozen model", done=0)
    yield RunMoment(status, strip(prompts, SEEDS, record.before), **record.add_frame(model, BEFORE, before))
    if config.edit and config.iterations:
        yield from sitting.edit()
    yield from sitting.train()


def go_on(model: DiffusionModel, paused: Paused, iterations: int) -> Iterator[RunMoment]:
    """The run from where it stood, up to so many updates in all."""
    checkpoint, record = paused.checkpoint, paused.record
    config, made = replace(checkpoint.config, iterations=iterations), checkpoint.iteration
    record.forget_after(made)
    record.film.iterations = iterations
    text = f"Going on after update {made}, with the settings that the run began with"
    yield RunMoment(markup.note(text), film=record.film.html(), **record.plots(config))
    yield from Sitting(model, config, record).train(checkpoint)


def prepare(model: DiffusionModel, config: EraseConfig, prompts: Sequence[Watched]) -> Tensor:
    """Do beforehand what the run would wait for; its pictures `(prompts, seeds, 3, H, W)` before.

    Nothing here is for the page: a part of it made while the page is laid out would stay in it.
    """
    watched = [item.prompt for item in curves.with_empty(prompts)]
    drawn = finish(pictures.draw(model, model.unet, watched, SEEDS, int))
    with closing(erase(model, config)) as run:
        EXAMPLES.keep(next(run).examples)
    curves.judge(model)
    return drawn[: len(prompts)]


@dataclass
class Sitting:
    """A run from Erase, or Continue, to its end or Stop."""

    model: DiffusionModel
    config: EraseConfig
    record: RunRecord
    began: float = field(default_factory=time.perf_counter)
    refreshed: float = 0.0  # when the curves were shown last
    frame: float = 0.0  # seconds that the last frame took
    update: float = 0.0  # seconds of an update, their mean; 0 before there is one
    first: tuple[int, float] | None = None  # iteration and training seconds when it began

    def train(self, resume: Checkpoint | None = None) -> Iterator[RunMoment]:
        """Every update; curves and what Stop keeps now and then; frames as the film wants."""
        examples = EXAMPLES.find(self.model, self.config)
        if examples is None and resume is None:
            examples = yield from stream.between(collect(self.model, self.config), self._collecting, share=0)
        try:
            for step in erase(self.model, self.config, resume=resume, examples=examples):
                if memory.tensor_bytes(step.examples) <= memory.EXAMPLES:
                    EXAMPLES.keep(step.examples)
                yield from self._show(step)
        except DivergenceError as diverged:
            yield finished(diverged.erasure, self.model)._replace(paused=None)
            raise

    def edit(self) -> Iterator[RunMoment]:
        """The pictures of what is solved for, which need not wait for examples."""
        step = next(erase(self.model, replace(self.config, iterations=0, held_out=0)))
        yield from self._frame(step, False, {})

    def _collecting(self, _: object) -> RunMoment:
        text = f"Collecting examples from the frozen model · {self._time(0)}"
        return RunMoment(markup.note(text, done=0))

    def _show(self, step: EraseStep) -> Iterator[RunMoment]:
        """One update on the page; step 0 is the run's beginning, and a resumed run's first its last."""
        record, left = self.record, dict[str, Any]()
        final, made = step.iteration == self.config.iterations, step.loss is not None
        self.first = start, seconds = self.first or (step.iteration, step.seconds)
        if step.iteration > start:
            self.update = (step.seconds - seconds) / (step.iteration - start)
        record.stages.note(step)
        if step.loss is not None:
            record.losses.append((step.iteration, step.loss))
        if final or not made or time.perf_counter() - self.refreshed >= REFRESH:
            self.refreshed = time.perf_counter() if made else 0.0  # the first update is shown, too
            if (error := step.held_out_error()) is not None and (made or not record.errors):
                record.errors.append((step.iteration, error))
            left = self._left(step) if final or made else {}  # a run that has just begun leaves nothing new
            yield RunMoment(self._progress(step), **left, **record.curves())
        else:
            yield RunMoment(self._progress(step))
        if final or (made and record.film.due(step.iteration, self.update, self.frame)):
            yield from self._frame(step, final, left or self._left(step))

    def _frame(self, step: EraseStep, final: bool, left: dict[str, Any]) -> Iterator[RunMoment]:
        """Pictures of the edited model; the final ones with the last word on the run."""
        record, prompts = self.record, self.record.prompts
        now = yield from self.draw(step, SEEDS if final else SEEDS[:1])
        seen = record.add_frame(self.model, step.iteration, now)
        seen["strip"] = strip(prompts, SEEDS, record.before, now[: len(prompts)], step.iteration)
        yield RunMoment(**left, **seen)
        if final:  # once more in full, for those who read only the last moment
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
        unet, label = (step.unet, pictures.reached(step.iteration)) if step else (self.model.unet, "before")
        made, begun = step.iteration if step else 0, time.perf_counter()

        def status(drawn: int) -> RunMoment:
            text = f"{label.capitalize()}: drawing, step {drawn} of {pictures.STEPS} · {self._time(made)}"
            return RunMoment(markup.note(text, done=made / max(self.config.iterations, 1)))

        wanted = [item.prompt for item in self.record.film.prompts]
        pictured = yield from pictures.draw(self.model, unet, wanted, seeds, status)
        self.frame = time.perf_counter() - begun
        return pictured

    def _time(self, made: int) -> str:
        """Time since the button was pressed and, once that is known, what is left after `made` updates."""
        text = duration(time.perf_counter() - self.began)
        if not self.update:
            return text
        updates = self.config.iterations - made
        frames = self.record.film.left(updates) if updates else 1
        return f"{text}, about {duration(updates * self.update + frames * self.frame)} left"

    def _progress(self, step: EraseStep) -> str:
        total, errors = self.config.iterations, self.record.errors
        erased = markup.quoted(erasure_text.of_run(self.config))
        parts = [f"Erasing {erased}", f"update {step.iteration} of {total}", self._time(step.iteration)]
        parts += [] if step.loss is None else [f"loss {step.loss:.4f}"]
        parts += [f"held-out error {errors[-1][1]:.2f}"] if errors else []
        return markup.note(" · ".join(parts), done=step.iteration / max(total, 1))


def finished(erasure: Erasure, model: DiffusionModel, error: float | None = None) -> RunMoment:
    """The last word on a run that ended, or was stopped with this erasure in hand."""
    config, made = config_of(erasure), updates(erasure)
    assert config and made is not None  # a run of our own
    more = any(eta_to_official(config.eta, erase_from=bool(t.erase_from)) < 0 for t in config.concepts)
    text = (
        f"<strong>{'Stopped; what was learned is kept.' if made < config.iterations else 'Done.'}</strong> "
        f"{erasure_text.made_by(erasure).capitalize()} in {erasure.provenance['seconds']:.1f} s taught the "
        f"model to {'draw more of' if more else 'avoid'} {erasure_text.quoted(erasure)} by "
        f"{sum(t.numel() for t in erasure.tensors.values()):,} weights, which change "
        f"{len(erasure.changes)} of the {len(list(model.unet.parameters()))} tensors of its UNet."
    )
    if error is not None:
        text += f" On examples it never trained on, the error is {error:.0%} of what it was."
    status = markup.note(text, tone="plain" if more or (error or 0) >= 1 else "good")
    return RunMoment(status, erasure=erasure, download=erasure_text.download(erasure))
