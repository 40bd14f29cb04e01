"""The erasing loop: a generator that yields every update of the edited model.

Each update regresses the edited model's prediction for the concept onto the erasing target
(`objective`), at noisy latents that `pairs` provides. Stop iterating and the run is over; what
has been learned is `step.erasure`. The frozen model is never changed.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from esd_core import denoise, objective, selection
from esd_core import examples as drawing
from esd_core.checkpoint import Checkpoint, optimizer_state
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure, set_parameter, shared_copy
from esd_core.examples import Examples, pick
from esd_core.models import DiffusionModel
from esd_core.pairs import Pairs
from esd_core.parallel import ALONE, Team
from esd_core.sampling import finish

DIVERGED = 100.0  # a loss this many times the first one cannot be learning
KEEP_EVERY = 10  # updates between copies of the last good weights
HOLD = 256  # so with `preserve` 1, off by a 16th of the noise (rms) is as bad as not erased at all


class DivergenceError(RuntimeError):
    """The loss became infinite or exploded; `erasure` is the last good state."""

    def __init__(self, message: str, erasure: Erasure) -> None:
        super().__init__(message)
        self.erasure = erasure


@dataclass
class _Run:
    """The state of one run: the edited copy and what is needed to update it."""

    model: DiffusionModel
    config: EraseConfig
    unet: UNet2DConditionModel
    trained: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    generator: torch.Generator  # draws examples
    picker: torch.Generator  # picks among them, so that given examples train like drawn ones
    team: Team = ALONE
    iteration: int = 0
    seconds: float = 0.0
    examples_seen: int = 0
    first_loss: float | None = None
    kept: dict[str, Tensor] = field(default_factory=dict)  # as after `kept_at` updates
    kept_at: int = 0

    def capture(self) -> dict[str, Tensor]:
        return {n: p.detach().to("cpu", torch.float32, copy=True) for n, p in self.trained.items()}

    @torch.no_grad()
    def keep(self) -> None:
        """Write the trained values over those kept before: one copy, never two."""
        for name, parameter in self.trained.items():
            self.kept[name].copy_(parameter)
        self.kept_at = self.iteration

    def erasure(self, tensors: dict[str, Tensor], iterations_done: int) -> Erasure:
        record: dict[str, Any] = {
            "model": self.model.name,
            "config": self.config.to_dict(),
            "iterations_done": iterations_done,
            "seconds": round(self.seconds, 2),
            "versions": {p: version(p) for p in ("torch", "diffusers", "transformers")},
        }
        return Erasure(tensors, self.model.fingerprint, record)


@dataclass(frozen=True)
class EraseStep:
    """One update. `erasure`, `unet` and `held_out_error` read the running model: use them before
    asking for the next step."""

    iteration: int  # updates made, 1 after the first; 0 before any
    t: Tensor | None  # (B,) timesteps of the update's erasing examples
    loss: float | None  # before the update
    seconds: float  # since the run began, teacher included; time spent by the consumer is not
    examples_seen: int
    examples: Examples
    _run: _Run

    def _current(self) -> _Run:
        if self._run.iteration != self.iteration:
            raise RuntimeError(
                f"the run is at update {self._run.iteration}; read step {self.iteration} before "
                "asking for the next one"
            )
        return self._run

    @property
    def unet(self) -> UNet2DConditionModel:
        """The edited UNet itself, for sampling a preview."""
        return self._current().unet

    @property
    def erasure(self) -> Erasure:
        """A copy of what has been learned so far."""
        run = self._current()
        return run.erasure(run.capture(), run.iteration)

    def checkpoint(self) -> Checkpoint:
        """A copy of all that the next update depends on, to go on from with `erase(resume=...)`."""
        run = self._current()
        return Checkpoint(
            self.erasure,
            run.config,
            optimizer_state(run.optimizer),
            (run.generator.get_state(), run.picker.get_state()),
            self.examples.to("cpu"),
            run.iteration,
            run.seconds,
            run.examples_seen,
            run.first_loss,
        )

    @torch.no_grad()
    def held_out_error(self) -> float | None:
        """Squared distance to the target on examples never trained on, relative to the frozen
        model's: 1 before the first update, 0 is a perfect fit. None without held-out examples."""
        run, held = self._current(), self.examples.held_out
        if held is None:
            return None
        target = objective.erasing_target(held.null, held.concept, run.config.eta, held.centre)
        few = (v.split(run.config.micro_batch_size) for v in (held.x_t, held.t, held.embeds))
        edited = torch.cat([denoise.predict(run.unet, *part) for part in zip(*few, strict=True)])
        distance = (edited - target).square().mean() / (held.frozen - target).square().mean()
        return distance.item()


def start(model: DiffusionModel, config: EraseConfig) -> _Run:
    """An edited copy whose selected parameters are trainable float32 copies."""
    names = selection.select(model.unet, config.train_method)
    unet = shared_copy(model.unet, names)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    trained = {}
    for name, parameter in unet.named_parameters():
        if name in set(names):
            trained[name] = nn.Parameter(parameter.detach().float(), requires_grad=True)
    for name, parameter in trained.items():
        set_parameter(unet, name, parameter)
    on_gpu = model.device.type == "cuda"  # there Adam's default makes copies of all that is trained
    optimizer = torch.optim.Adam(trained.values(), lr=config.learning_rate, fused=on_gpu)
    generator, picker = (torch.Generator().manual_seed(config.seed) for _ in range(2))
    run = _Run(model, config, unet, trained, optimizer, generator, picker)
    run.kept = run.capture()  # should the very first update diverge
    return run


def restart(model: DiffusionModel, config: EraseConfig, rest: Checkpoint) -> _Run:
    """The run as it stood at its checkpoint."""
    rest.check(model, config)
    run = start(model, config)
    with torch.no_grad():
        for name, parameter in run.trained.items():
            parameter.copy_(rest.erasure.tensors[name])
    run.optimizer.load_state_dict(copy.deepcopy(rest.optimizer))  # it keeps what it is given
    run.generator.set_state(rest.generators[0])
    run.picker.set_state(rest.generators[1])
    run.iteration, run.seconds = rest.iteration, rest.seconds
    run.examples_seen, run.first_loss = rest.examples_seen, rest.first_loss
    run.keep()
    return run


def draw(run: _Run, images: Tensor | None, preserve: Pairs | None = None) -> Examples:
    """New examples, from the model whose trajectories the run follows; those that hold are kept."""
    unet = run.unet if run.config.x_t_source == "edited" else run.model.unet
    if run.config.points == "last":
        return drawing.draw_one(run.model, unet, run.config, run.generator, run.team)
    return finish(
        drawing.draw_examples(run.model, unet, run.config, run.generator, images, run.team, preserve)
    )


def backward(run: _Run, batch: Pairs, weight: float) -> Tensor:
    """Add a batch's gradients, times `weight`; returns its loss, likewise.

    Of several processes each does its share, which add up to what one would do. Only one
    micro-batch's activations are in memory at a time.
    """
    rows = list(run.team.mine(len(batch)))
    total = torch.zeros((), device=batch.x_t.device)
    # A process without examples takes part with one that counts nothing.
    for few in torch.tensor(rows or [0]).split(run.config.micro_batch_size):
        part = batch[few.to(batch.t.device)]
        target = objective.erasing_target(part.null, part.concept, run.config.eta, part.centre)
        edited = denoise.predict(run.unet, part.x_t, part.t, part.embeds)
        share = len(few) / len(batch) if rows else 0.0
        loss = weight * share * objective.erasing_loss(edited, target)
        loss.backward()
        total += loss.detach()
    return total


def holding(examples: Examples, config: EraseConfig) -> float:
    """The weight of the held examples' loss: `preserve` times the loss that there is to erase.

    That of a style is half an object's, and eta 3 has four times that of eta 1. With one weight
    for all, styles stay and a large eta ruins the rest.
    """
    losses = [
        objective.erasing_loss(
            drawn.frozen, objective.erasing_target(drawn.null, drawn.concept, config.eta, drawn.centre)
        ).item()
        for drawn in examples.train
    ]
    return HOLD * config.preserve * sum(losses) / len(losses)


def update(run: _Run, examples: Examples) -> tuple[float, Tensor]:
    """One optimiser step; returns the loss before it and the erasing examples' timesteps."""
    config = run.config
    erasing = pick(examples, config, run.picker)
    batches = [(erasing, 1.0)]
    if examples.preserve is not None:
        order = torch.randperm(len(examples.preserve), generator=run.picker)[: config.batch_size]
        batches.append((examples.preserve[order.to(erasing.t.device)], holding(examples, config)))
    run.optimizer.zero_grad()
    total = torch.zeros((), device=erasing.x_t.device)
    for batch, weight in batches:
        total += backward(run, batch, weight)
    run.team.add_up([total, *(p.grad for p in run.trained.values() if p.grad is not None)])
    value = total.item()
    if run.first_loss is None:
        run.first_loss = value  # of erasing alone: nothing held has moved yet
    limit = DIVERGED * max(run.first_loss, 1e-6) * sum(weight for _, weight in batches)
    if not math.isfinite(value) or value > limit:
        raise DivergenceError(
            f"the loss went from {run.first_loss:.3g} to {value:.3g} by update "
            f"{run.iteration + 1}; lower the learning rate (now {config.learning_rate:g}) or eta "
            f"(now {config.eta:g})",
            run.erasure(run.kept, run.kept_at),
        )
    if run.iteration % KEEP_EVERY == 0:
        run.keep()
    run.optimizer.step()
    return value, erasing.t


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
        examples: a former run's `step.examples` for the same concepts and sampling options; the
            run then draws none of its own. `examples.KeptExamples` finds them.
        images: pictures `(M, 3, H, W)` in [0, 1], for `x_t_source="images"`.
        resume: a former run's `step.checkpoint()` with the same options but, maybe, for
            `iterations`; the run goes on there, and its first step is the one it stopped at.
        team: processes that make the same call, each with its own copy of the model, and share out
            trajectories and batches; all end with the same erasure, that of one process up to
            rounding.

    Raises:
        ValueError: the config does not fit the model, the checkpoint or the examples, or images are
            missing.
        DivergenceError: the loss exploded; its `erasure` is the last good state.
    """
    if (config.x_t_source == "images") != (images is not None):
        raise ValueError("x_t_source 'images' and the argument images go together: give both or none")
    model.latent_shape(config.image_size)
    run = start(model, config) if resume is None else restart(model, config, resume)
    run.team = team
    if resume is not None:
        examples = resume.examples.to(model.device)
    elif examples is not None:
        drawing.check(examples, model, config)
    mark = time.perf_counter()
    if examples is None:
        examples = Examples(()) if config.points == "last" else draw(run, images)
    run.seconds += time.perf_counter() - mark
    yield EraseStep(run.iteration, None, None, run.seconds, run.examples_seen, examples, run)
    for iteration in range(run.iteration, config.iterations):
        mark = time.perf_counter()
        stale = config.redraw_every and iteration and iteration % config.redraw_every == 0
        if stale or not examples.train:
            examples = draw(run, images, examples.preserve)
        loss, t = update(run, examples)
        run.iteration += 1
        run.examples_seen += len(t)
        run.seconds += time.perf_counter() - mark
        yield EraseStep(run.iteration, t, loss, run.seconds, run.examples_seen, examples, run)
