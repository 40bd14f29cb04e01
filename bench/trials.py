"""The changes that `bench.tried` times: each makes one unit of work, done the plain way or another.

Not here, because torch does it unasked: gradients below the first trained layer are never computed
(nothing there requires one); `update: esd-x with a gradient for x_t` shows what that spares.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from esd_core import DiffusionModel, denoise, erase, objective, preset
from esd_core.erasing import hold_weight, update
from esd_core.prompts import Line
from esd_core.run_state import start
from esd_core.teacher import Pairs, Teacher

Work = Callable[[], Any]
CONFIG = preset(
    "live", "a cat", learning_rate=1e-7, train_method="esd-x"
)  # timed again and again: it must not diverge


def half(model: DiffusionModel) -> DiffusionModel:
    """The same model with its frozen UNet in bfloat16; autocast does the rest."""
    return model.with_unet(copy.deepcopy(model.unet).to(torch.bfloat16))


def channels_last(model: DiffusionModel) -> DiffusionModel:
    return model.with_unet(copy.deepcopy(model.unet).to(memory_format=torch.channels_last))


def compiled(model: DiffusionModel) -> DiffusionModel:
    other = model.with_unet(copy.deepcopy(model.unet))
    other.unet.compile()
    return other


# --- one update: 8 erasing and 8 preserving examples --------------------------------------------


def updating(model: DiffusionModel, change: Callable[[Any], None] | None = None, **options: Any):
    """One update after another of a run that `change` may alter."""
    run = start(model, replace(CONFIG, **options))
    run.examples = examples_of(model)
    if change:
        change(run)
    return lambda: update(run)


def examples_of(model: DiffusionModel):
    """Drawn once."""
    if not hasattr(examples_of, "drawn"):
        examples_of.drawn = next(erase(model, CONFIG)).examples
    return examples_of.drawn


def fused_adam(run: Any) -> None:
    run.optimizer = torch.optim.Adam(run.trained.values(), lr=1e-7, fused=True)


def free_text_states(run: Any) -> None:
    """Cross-attention's keys and values cost nothing: more than caching them could gain."""
    for name, module in run.unet.named_modules():
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            row = torch.zeros(1, 1, module.out_features)
            module.forward = lambda x, row=row: row.expand(*x.shape[:2], -1)


def gradient_to_x_t(run: Any) -> None:
    """As if something below the first trained layer needed a gradient."""
    run.unet.register_forward_pre_hook(lambda _, given: (given[0].detach().requires_grad_(), *given[1:]))


def together(model: DiffusionModel) -> Work:
    """Erasing and preserving examples forward and backward in one batch."""
    run, examples = start(model, CONFIG), examples_of(model)

    def work() -> None:
        run.optimizer.zero_grad()
        parts = [
            drawn[torch.randperm(len(drawn))[: CONFIG.batch_size]]
            for drawn in (examples.train[0], examples.preserve)
        ]
        batch, size = Pairs.cat(parts), len(parts[0])
        target = objective.erasing_target(batch.null, batch.concept, CONFIG.eta, batch.centre)
        edited = denoise.predict(run.unet, batch.x_t, batch.t, batch.embeds)
        erasing = objective.erasing_loss(edited[:size], target[:size])
        preserving = objective.erasing_loss(edited[size:], target[size:])
        (erasing + hold_weight(examples, CONFIG) * preserving).backward()
        run.optimizer.step()

    return work


# --- the teacher: 8 + 1 trajectories of 12 steps, and what preservation adds --------------------


def drawing(model: DiffusionModel, at_once: int = 9, steps: int = 12, scheduler: str = "ddim"):
    config = replace(CONFIG, num_inference_steps=steps, scheduler=scheduler)
    target = config.concepts[0]

    def work() -> None:
        for first in range(0, 9, at_once):
            lines = [Line(target.concept, seed=seed) for seed in range(first, min(first + at_once, 9))]
            list(Teacher(model, config).trajectories(target, lines))

    return work


def floor(model: DiffusionModel, evaluations: int) -> Work:
    """The student's forward and backward on 8 examples, and as many frozen evaluations."""
    run, batch = start(model, CONFIG), examples_of(model).train[0][torch.arange(8)]

    def work() -> None:
        for _ in range(evaluations):
            with torch.no_grad():
                denoise.predict(model.unet, batch.x_t, batch.t, batch.embeds)
        edited = denoise.predict(run.unet, batch.x_t, batch.t, batch.embeds)
        edited.square().mean().backward()

    return work


UPDATES: dict[str, Callable[[DiffusionModel], Work]] = {
    "plain": updating,
    "fused Adam": lambda m: updating(m, fused_adam),
    "channels_last": lambda m: updating(channels_last(m)),
    "bfloat16": lambda m: updating(half(m)),
    "gradient checkpointing": lambda m: updating(m, gradient_checkpointing=True),
    "micro-batches of 4": lambda m: updating(m, micro_batch_size=4),
    "micro-batches of 1": lambda m: updating(m, micro_batch_size=1),
    "erasing and preserving examples in one batch": together,
    "keys and values of the text for free (a bound)": lambda m: updating(m, free_text_states),
    "esd-x with a gradient for x_t": lambda m: updating(m, gradient_to_x_t),
    "esd-x-strict": lambda m: updating(m, train_method="esd-x-strict"),
    "esd-u": lambda m: updating(m, train_method="esd-u"),
    "8 examples, forward and backward only": lambda m: floor(m, 0),
    "8 examples, forward and backward, 2 frozen evaluations": lambda m: floor(m, 2),
}
TEACHERS: dict[str, Callable[[DiffusionModel], Work]] = {
    "plain": drawing,
    "trajectories one by one": lambda m: drawing(m, at_once=1),
    "trajectories by three": lambda m: drawing(m, at_once=3),
    "channels_last": lambda m: drawing(channels_last(m)),
    "bfloat16": lambda m: drawing(half(m)),
    "6 steps, ddim": lambda m: drawing(m, steps=6),
    "6 steps, dpm++": lambda m: drawing(m, steps=6, scheduler="dpm++"),
}
