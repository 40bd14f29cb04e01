"""How long a run will take here: arithmetic on a short timing of this machine.

A run's time is a sum of UNet calls: the teacher's, the student's with their gradients, and those of
the pictures on the way. ui/shared/timing.py times such a call.
"""

from __future__ import annotations

from typing import NamedTuple

from esd_core import DiffusionModel, EraseConfig
from esd_core import prompts as run_prompts
from esd_core.teacher import AT_ONCE, HELD_STEPS
from ui.erase.film import Film
from ui.shared import timing
from ui.shared.timing import CallTime


class Estimate(NamedTuple):
    """Seconds of a run's parts."""

    collecting: float
    training: float
    drawing: float


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
    call, learn = timing.evaluation(model), timing.update(model, config.train_method)
    training = config.iterations * learn(examples(config))
    frame = steps * call(2 * prompts)
    ends = (1 if again else 2) * steps * call(2 * prompts * seeds)
    drawn = frames(config.iterations, training / max(config.iterations, 1), frame)
    return Estimate(collecting(model, config, call), training, ends + len(drawn) * frame)


def examples(config: EraseConfig) -> int:
    """How many an update learns from."""
    return config.batch_size * (1 if config.preserve == 0 else 2)


def collecting(model: DiffusionModel, config: EraseConfig, call: CallTime) -> float:
    """Trajectories with guidance, and what the teacher adds on the way."""
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
    each = examples / AT_ONCE * call(AT_ONCE)
    walk = config.num_inference_steps * call(2 * lines) * len(config.concepts)
    contexts += sum(
        any(line.neutral for line in run_prompts.asked(model, t, config, [0, 0])) for t in config.concepts
    )
    sets = contexts + len(config.concepts) * 2 * (config.x_t_source == "edited")
    held = 0.0
    if config.preserve:
        held = min(HELD_STEPS, config.num_inference_steps) * call(2 * len(run_prompts.held(model, config)))
    return held + drawings * (walk + sets * each)


def frames(iterations: int, update_seconds: float, frame_seconds: float) -> list[int]:
    """After which updates the film would ask for a frame, between the first and the last."""
    film, drawn = Film([], 0, iterations), []
    film.frames[0] = []
    for update in range(1, iterations):
        if film.due(update, update_seconds, frame_seconds):
            film.frames[update] = []
            film.thin_out(update)
            drawn.append(update)
    return drawn


def sentence(made: Estimate, config: EraseConfig) -> str:
    """For the page: the total, what it is made of, and what it does not know."""
    updates = f"{config.iterations} update{'s' if config.iterations != 1 else ''}"
    return (
        f'<p class="esd-cost">Takes about {timing.duration(sum(made))} here'
        f"<small>examples {timing.duration(made.collecting)}, {updates} {timing.duration(made.training)}, "
        f"pictures {timing.duration(made.drawing)}. From a short timing of this machine; longer if it is "
        "busy, and others' runs come first.</small></p>"
    )
