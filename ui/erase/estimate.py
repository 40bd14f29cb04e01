"""How long a run will take here: a short timing of this machine, and arithmetic.

A run's time is a sum of UNet calls: the teacher's, the student's with their gradients, and those of
the pictures on the way. A call is timed once per process, on few and on more examples; what lies
between and beyond is taken to be a straight line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from diffusers import UNet2DConditionModel

from esd_core import DiffusionModel, EraseConfig, denoise
from esd_core.erasing import start
from esd_core.pairs import HELD_STEPS, TEACHER_BATCH
from esd_core.run_prompts import asked, lines_held
from ui.erase.film import MOST, SHARE, Film
from ui.shared.pace import duration

FEW, MORE = 2, 12  # examples of a timed call
PATIENT = 3.0  # seconds: a call on FEW examples slower than this is not timed on MORE


@dataclass(frozen=True)
class Line:
    """Seconds of a call on n examples."""

    base: float
    each: float

    def __call__(self, n: float) -> float:
        return self.base + self.each * n


_timed: dict[tuple[int, str], Line] = {}
_timing = threading.Lock()


@dataclass(frozen=True)
class Estimate:
    """Seconds of a run's parts."""

    collecting: float
    training: float
    drawing: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.collecting + self.training + self.drawing


def evaluation(model: DiffusionModel) -> Line:
    """A prediction of the frozen UNet, per example and prompt."""
    return _line(model, "", lambda: partial(_call, model, model.unet, train=False))


def update(model: DiffusionModel, method: str) -> Line:
    """A prediction, its gradients for what `method` trains, and Adam's step.

    Raises:
        ValueError: the method is unknown, or selects nothing in this UNet.
    """

    def make() -> Callable[[int], float]:
        run = start(model, EraseConfig("a", train_method=method))
        return lambda n: _call(model, run.unet, n, train=True) + _clock(run.optimizer.step)

    return _line(model, method, make)


def _line(model: DiffusionModel, what: str, make: Callable[[], Callable[[int], float]]) -> Line:
    """Time what is made for FEW and for MORE examples, once; the best of three, after a warm-up."""
    key = id(model.unet), what
    with _timing:
        if key not in _timed:
            seconds = make()
            first = seconds(FEW)
            few = first if first > PATIENT else min(seconds(FEW) for _ in range(3))
            if few > PATIENT:
                _timed[key] = Line(0.0, few / FEW)
            else:
                more = min(seconds(MORE) for _ in range(3))
                each = max(0.0, more - few) / (MORE - FEW)
                _timed[key] = Line(max(0.0, few - FEW * each), each)
    return _timed[key]


def _call(model: DiffusionModel, unet: UNet2DConditionModel, n: int, train: bool) -> float:
    """Seconds of one call on n examples."""
    x_t = torch.zeros(n, *model.latent_shape(), device=model.device)
    t = torch.full((n,), 500, device=model.device)
    embeds = model.encode([""]).expand(n, -1, -1)

    def call() -> None:
        with torch.set_grad_enabled(train):
            output = denoise.predict(unet, x_t, t, embeds)
            if train:
                output.square().mean().backward()
        output.sum().item()  # waits for a device that works on its own

    return _clock(call)


def _clock(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def estimate(
    model: DiffusionModel, config: EraseConfig, prompts: int, seeds: int, steps: int, again: bool = False
) -> Estimate:
    """What a run will take on this machine, if nothing else does.

    Args:
        prompts: that it watches, a picture each in a frame of its film.
        seeds: of each prompt's pictures before and after.
        steps: denoising steps of a picture.
        again: the pictures before were drawn for another run.
    """
    call, learn = evaluation(model), update(model, config.train_method)
    training = config.iterations * learn(_examples(config))
    frame = steps * call(2 * prompts)
    ends = (1 if again else 2) * steps * call(2 * prompts * seeds)
    frames = len(_frames(config.iterations, training / max(config.iterations, 1), frame))
    return Estimate(_collecting(model, config, call), training, ends + frames * frame)


def correct(model: DiffusionModel, config: EraseConfig, seconds: float) -> None:
    """Believe a run, whose updates took `seconds` each, more than the short timing before it."""
    key = id(model.unet), config.train_method
    with _timing:
        if seconds > 0 and (timed := _timed.get(key)):
            off = seconds / max(timed(_examples(config)), 1e-9)
            _timed[key] = Line(off * timed.base, off * timed.each)


def _examples(config: EraseConfig) -> int:
    """How many an update learns from."""
    return config.batch_size * (1 if config.preserve == 0 else 2)


def _collecting(model: DiffusionModel, config: EraseConfig, call: Line) -> float:
    """Trajectories with guidance, and what `pairs.complete` adds where they end."""
    drawings = 1
    if config.redraw_every and config.iterations:
        drawings += (config.iterations - 1) // config.redraw_every
    contexts = sum(bool(t.erase_from) for t in config.concepts)
    if config.points == "last":  # one concept each time, stopped halfway on average
        walked = (config.num_inference_steps + 1) / 2 * call(2 * config.trajectories)
        ends = (2 + contexts / len(config.concepts)) * call(config.trajectories)
        return drawings * (walked + ends)
    lines = config.trajectories + config.held_out
    examples = lines * config.num_inference_steps
    each = examples / TEACHER_BATCH * call(TEACHER_BATCH)
    walk = config.num_inference_steps * call(2 * lines) * len(config.concepts)
    contexts += sum(any(a.neutral for a in asked(model, t, config, 2)) for t in config.concepts)
    sets = contexts + len(config.concepts) * 2 * (config.x_t_source == "edited")
    held = 0.0
    if config.preserve:
        held = min(HELD_STEPS, config.num_inference_steps) * call(2 * lines_held(config))
    return held + drawings * (walk + sets * each)


def _frames(iterations: int, update_seconds: float, frame_seconds: float) -> list[int]:
    """The frames between the first and the last that the film would ask for."""
    film = Film([], 0, iterations)
    while film.every * update_seconds < SHARE * frame_seconds and film.every < iterations:
        film.every *= 2
    every, at, drawn = film.every, film.every, []
    while at < iterations - every / 2:
        drawn.append(at)
        if at // every >= MOST:
            every *= 2
        at += every
    return drawn


def sentence(made: Estimate, config: EraseConfig) -> str:
    """For the page: the total, what it is made of, and what it does not know."""
    updates = f"{config.iterations} update{'s' if config.iterations != 1 else ''}"
    return (
        f'<p class="esd-cost">Takes about {duration(made.total)} here'
        f"<small>examples {duration(made.collecting)}, {updates} {duration(made.training)}, "
        f"pictures {duration(made.drawing)}. From a short timing of this machine; longer if it is "
        "busy, and others' runs come first.</small></p>"
    )
