"""How long a run will take here: arithmetic on a short timing of this machine.

A run's time is a sum of UNet calls: the teacher's, the student's with their gradients, and those of
the pictures on the way. ui/shared/timing.py times such a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esd_core import DiffusionModel, EraseConfig
from esd_core import prompts as run_prompts
from esd_core.examples import needed
from esd_core.study.watched_prompts import to_watch
from esd_core.teacher import AT_ONCE, HELD_STEPS
from ui.erase import curves, fields, pictures
from ui.erase.pictures import SHARE, Film
from ui.erase.run import EXAMPLES, MOST_WATCHED
from ui.shared import timing
from ui.shared.timing import CallTime, duration


def cost(model: DiffusionModel, **values: Any) -> str:
    """What the run that the fields describe will take, of what, and what that does not know."""
    config = fields.read(model, **values)
    watched = curves.with_empty(to_watch(model, config.concepts, MOST_WATCHED))
    parts, busy = estimate(model, config, [item.prompt for item in watched]), timing.slowdown(model)
    examples, training, drawing, total = (duration(busy * part) for part in (*parts, sum(parts)))
    load = f"now {busy:.1f} times slower than it can be" if busy > 1.2 else "longer if it is busy"
    updates = f"{config.iterations} update{'s' if config.iterations != 1 else ''}"
    return (
        f'<p class="esd-cost">Takes about {total} here'
        f"<small>examples {examples}, {updates} {training}, pictures {drawing}. From a short timing of "
        f"this machine, {load}; others' runs come first.</small></p>"
    )


def estimate(
    model: DiffusionModel, config: EraseConfig, prompts: Sequence[str]
) -> tuple[float, float, float]:
    """Seconds that a run's examples, updates and pictures will take here; `prompts` are its film's."""
    call, learn = timing.evaluation(model), timing.update(model, config.train_method)
    update = learn(config.batch_size * (1 if config.preserve == 0 else 2))
    frame = pictures.STEPS * call(2 * len(prompts))
    film = Film([], 0, config.iterations)
    film.every = max(film.every, round(SHARE * frame / update))
    between = max(0.0, film.left(config.iterations) - 1)  # the last one is of the pictures after
    between += bool(config.edit and config.iterations)  # and the first of what is solved for
    ends = 1 if pictures.known(model, prompts) is not None else 2
    after = pictures.STEPS * call(2 * len(prompts) * len(pictures.SEEDS))
    examples = 0.0 if EXAMPLES.find(model, config) or not needed(config) else collecting(model, config, call)
    return examples, config.iterations * update, ends * after + between * frame


def collecting(model: DiffusionModel, config: EraseConfig, call: CallTime) -> float:
    """Trajectories with guidance, and what the teacher adds on the way."""
    steps, again = config.num_inference_steps, config.redraw_every
    drawings = 1 + (max(config.iterations, 1) - 1) // again if again else 1
    contexts = sum(bool(t.erase_from) for t in config.concepts)
    if config.points == "last":  # one concept each time, stopped halfway on average
        ends = (2 + contexts / len(config.concepts)) * call(config.trajectories)
        return drawings * ((steps + 1) / 2 * call(2 * config.trajectories) + ends)
    lines = config.trajectories + config.held_out
    walk = steps * call(2 * lines) * len(config.concepts)
    plain = (run_prompts.asked(model, t, config, [0, 0]) for t in config.concepts)
    sets = contexts + sum(any(line.neutral for line in own) for own in plain)
    sets += len(config.concepts) * 2 * (config.x_t_source == "edited")
    each = lines * steps / AT_ONCE * call(AT_ONCE)
    held = 0.0
    if config.preserve:
        held = min(HELD_STEPS, steps) * call(2 * len(run_prompts.held(model, config)))
    return held + drawings * (walk + sets * each)
