"""The erasing loop: a generator that yields every update of the edited model.

Each update regresses the edited model's prediction for the concept onto the erasing target (`objective`), at
noisy latents that `teacher` provides. Stop iterating and the run is over; what has been learned is
`step.erasure`. The frozen model is never changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import denoise, objective
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.examples import Examples, needed, origin, pick, pick_some
from esd_core.models import DiffusionModel
from esd_core.run_state import Checkpoint, Run, start
from esd_core.support.parallel import ALONE, Team
from esd_core.teacher import Pairs

DIVERGED = 100.0  # a loss this many times the first one cannot be learning
KEEP_EVERY = 10  # updates between copies of the last good weights
HOLD = 256  # 16 squared: see `hold_weight`


class DivergenceError(RuntimeError):
    """The loss became infinite or exploded; `erasure` is the last good state."""

    def __init__(self, message: str, erasure: Erasure) -> None:
        super().__init__(message)
        self.erasure = erasure


@dataclass(frozen=True, eq=False)
class EraseStep:
    """One update. `erasure`, `unet` and `held_out_error` read the running model: use them before
    asking for the next step."""

    iteration: int  # updates made, 1 after the first; 0 before any
    t: Tensor | None  # (B,) timesteps of the update's erasing examples
    loss: float | None  # before the update
    seconds: float  # since the run began, teacher included; time spent by the consumer is not
    examples_seen: int
    examples: Examples
    run: Run

    def _current(self) -> Run:
        if self.run.iteration != self.iteration:
            raise RuntimeError(
                f"the run is at update {self.run.iteration}; read step {self.iteration} before "
                "asking for the next one"
            )
        return self.run

    @property
    def unet(self) -> UNet2DConditionModel:
        """The edited UNet itself, for sampling a preview."""
        return self._current().unet

    @property
    def erasure(self) -> Erasure:
        """A copy of what has been learned so far."""
        return self._current().learned

    def checkpoint(self) -> Checkpoint:
        """A copy of all that the next update depends on, to go on from with `erase(resume=...)`."""
        return self._current().checkpoint()

    @torch.no_grad()
    def held_out_error(self) -> float | None:
        """Squared distance to the target on examples never trained on, relative to the frozen model's: 1
        before the first update, 0 is a perfect fit. None without held-out examples."""
        run, held = self._current(), self.examples.held_out
        if held is None:
            return None
        target = target_of(held, run.config)
        few = (v.split(run.config.micro_batch_size) for v in (held.x_t, held.t, held.embeds))
        edited = torch.cat([denoise.predict(run.unet, *part) for part in zip(*few, strict=True)])
        way = (held.frozen - target).square().mean()
        rounding = 1e-10 * held.frozen.square().mean()
        return float((edited - target).square().mean() / way) if way > rounding else None


def target_of(drawn: Pairs, config: EraseConfig) -> Tensor:
    """The erasing target of each example, `(N, C, h, w)`."""
    return objective.erasing_target(drawn.null, drawn.concept, config.eta, drawn.centre)


def hold_weight(examples: Examples, config: EraseConfig) -> float:
    """The weight w of the held examples' loss in an update's loss L_erase + w L_held.

        w = 256 preserve E,    E = mean over the concepts of |eps_frozen - target|^2

    E is the loss that there is to erase: a style's is half an object's, and eta 3 has four times that of eta
    1. With one weight for all, styles stay and a large eta ruins the rest. 256: at `preserve` 1 a held
    prediction that is off by 1/16 (root mean square, where noise has 1) costs E, as much as not erasing.
    """
    losses = [objective.erasing_loss(own.frozen, target_of(own, config)).item() for own in examples.train]
    return HOLD * config.preserve * sum(losses) / len(losses)


def backward(run: Run, batch: Pairs, weight: float) -> Tensor:
    """Add a batch's gradients, times `weight`; returns its loss `()`, likewise.

    Of several processes each computes its rows; the sums over all are those of one process. The activations
    of one micro-batch at a time are in memory.
    """
    rows = list(run.team.mine(len(batch)))
    total = torch.zeros((), device=batch.x_t.device)
    # Without a row of its own a process computes one that counts nothing, to have gradients to add up.
    for few in torch.tensor(rows or [0]).split(run.config.micro_batch_size):
        part = batch[few.to(batch.t.device)]
        edited = denoise.predict(run.unet, part.x_t, part.t, part.embeds)
        share = weight * len(few) / len(batch) if rows else 0.0
        loss = share * objective.erasing_loss(edited, target_of(part, run.config))
        loss.backward()
        total += loss.detach()
    return total


def update(run: Run) -> tuple[float, Tensor]:
    """One optimiser step; returns the loss before it and the erasing examples' timesteps `(B,)`.
    DivergenceError, and no step, if the loss is not finite or DIVERGED times the first one."""
    config, held = run.config, run.examples.preserve
    erasing = pick(run.examples, config, run.picker)
    batches = [(erasing, 1.0)]
    if held is not None:
        batches.append((pick_some(held, config.batch_size, run.picker), hold_weight(run.examples, config)))
    run.optimizer.zero_grad()
    loss = torch.stack([backward(run, batch, weight) for batch, weight in batches]).sum()
    run.team.add_up([loss, *(p.grad for p in run.trained.values() if p.grad is not None)])
    value = loss.item()
    if run.first_loss is None:
        run.first_loss = value  # of erasing alone: nothing held has moved yet
    if not value <= DIVERGED * max(run.first_loss, 1e-6) * sum(weight for _, weight in batches):
        raise DivergenceError(
            f"the loss went from {run.first_loss:.3g} to {value:.3g} by update {run.iteration + 1}; lower "
            f"the learning rate (now {config.learning_rate:g}) or eta (now {config.eta:g})",
            run.last_good,
        )
    if run.iteration % KEEP_EVERY == 0:
        run.keep()
    run.optimizer.step()
    return value, erasing.t


def refuse_nothing(model: DiffusionModel, config: EraseConfig) -> None:
    """Raise ValueError if a concept's target is what the frozen model predicts already."""
    if still := next((t.concept for t in config.concepts if config.eta == (0 if t.erase_from else -1)), None):
        raise ValueError(
            f"with eta {config.eta:g} the target for {still!r} is what the frozen model predicts already: "
            "there is nothing to erase; use another eta, such as 1"
        )
    empty = (t.concept for t in config.concepts if torch.equal(*model.encode([t.concept, ""])))
    if nothing := next(empty, None):
        raise ValueError(
            f"{model.short_name!r} reads {nothing!r} as the empty prompt: there is nothing to erase"
        )


def begin(
    model: DiffusionModel,
    config: EraseConfig,
    examples: Examples | None,
    images: Tensor | None,
    resume: Checkpoint | None,
    team: Team,
) -> Run:
    """The run before its next update. Arguments as those of `erase`."""
    given, wanted = images is not None, config.x_t_source == "images"
    if given != wanted and (given or resume is None or config.redraw_every):
        raise ValueError("x_t_source 'images' and the argument images go together: give both or none")
    if resume is not None:
        resume.check(model, config)
    elif examples is None or examples.origin:  # else they are of another model than this
        refuse_nothing(model, config)
    if examples and examples.origin not in ("", origin(model, config)):
        raise ValueError(
            "these examples were drawn for another model, other concepts, another seed or other sampling "
            "options; leave them out and the run draws its own"
        )
    model.latent_shape(config.image_size)
    mark = time.perf_counter()
    run = start(model, config, team)
    if resume is not None:
        run.restore(resume)
        return run
    if examples:
        run.examples = examples
    elif config.points == "all" and needed(config):
        run.draw(images)
    run.seconds = time.perf_counter() - mark
    return run


def erase(
    model: DiffusionModel,
    config: EraseConfig,
    *,
    examples: Examples | None = None,
    images: Tensor | None = None,
    resume: Checkpoint | None = None,
    team: Team = ALONE,
) -> Iterator[EraseStep]:
    """Erase, one yielded `EraseStep` per update; the first, iteration 0, precedes any update.

    Args:
        model: the frozen model.
        config: what to erase and how.
        examples: a former run's, to draw none; `examples.KeptExamples` finds those that serve.
        images: pictures `(M, 3, H, W)` in [0, 1], for `x_t_source="images"`; a run that goes on needs them
            only to draw again.
        resume: a former run's checkpoint; only `iterations` may differ from its config. The first step is the
            one that it stopped at.
        team: processes that make the same call, each with its own copy of the model, and share out
            trajectories and batches; all end with the same erasure, that of one process up to rounding.

    Raises:
        ValueError: the config does not fit the model, the checkpoint or the examples, images are missing, or
            there is nothing to erase.
        DivergenceError: the loss exploded; its `erasure` is the last good state.
    """
    run = begin(model, config, examples, images, resume, team)
    t = loss = None
    while True:
        yield EraseStep(run.iteration, t, loss, run.seconds, run.examples_seen, run.examples, run)
        if run.iteration >= config.iterations:
            return
        mark = time.perf_counter()
        stale = config.redraw_every and run.iteration and run.iteration % config.redraw_every == 0
        if stale or not run.examples.train:
            run.draw(images)
        loss, t = update(run)
        run.iteration += 1
        run.examples_seen += len(t)
        run.seconds += time.perf_counter() - mark
