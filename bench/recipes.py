"""The changes of a whole `live` run that `bench.tried` tries: options, or another way to train.

A recipe takes the frozen model and the run's config, and returns the last step of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from bench import alike
from esd_core import DiffusionModel, EraseConfig, erase
from esd_core.erasing import EraseStep
from esd_core.placement import covariance
from esd_core.prompts import Line, naming, prompts_to_hold, staying
from esd_core.study.closed_form import closed_form_edit, null_space_edit, orthogonal_edit
from esd_core.teacher import Labels, Pairs

FALLEN, PATIENCE = 0.98, 3  # an error that three updates do not bring below this share is flat
WARM_UP = 4  # updates
# `live` as it was when `bench.tried` tried these; what they showed made it what it is.
FORMER = {"iterations": 16, "learning_rate": 3e-3}
# An edit without updates, and few examples for its held-out error.
ALONE = {"train_method": "esd-x-strict", "iterations": 0, "preserve": 0.0, "trajectories": 1}

Train = Callable[[DiffusionModel, EraseConfig], EraseStep]


def straight(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """To the end."""
    *_, step = erase(model, config)
    return step


def until_flat(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """Until the held-out error has stopped falling; looking costs an evaluation per update."""
    least, since = math.inf, 0
    for step in erase(model, config):
        error = step.held_out_error()
        if error < FALLEN * least:
            least, since = error, 0
        else:
            since += 1
        if since == PATIENCE:
            break
    return step


def rising(made: int, total: int) -> float:
    """In equal steps to the whole rate."""
    return min(1.0, (made + 1) / WARM_UP)


def falling(made: int, total: int) -> float:
    """Half a cosine to 0 (SGDR without restarts; Loshchilov and Hutter, arXiv 1608.03983, eq. 5)."""
    return (1 + math.cos(math.pi * made / total)) / 2


def at_rate(share: Callable[[int, int], float]) -> Train:
    """Every update at a share of the learning rate, by how many of how many updates are made."""

    def train(model: DiffusionModel, config: EraseConfig) -> EraseStep:
        for step in erase(model, config):
            rate = config.learning_rate * share(step.iteration, config.iterations)
            step.run.optimizer.param_groups[0]["lr"] = rate
        return step

    return train


def averaged(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """In the end the mean of the weights after each update of the second half (Polyak)."""
    seen: list[list[Tensor]] = []
    for step in erase(model, config):
        trained = list(step.run.trained.values())
        if 2 * step.iteration > config.iterations:
            seen.append([p.detach().clone() for p in trained])
    with torch.no_grad():
        for parameter, *values in zip(trained, *seen, strict=True):
            parameter.copy_(torch.stack(values).mean(0))
    return step


def quick_to_forget(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """Adam's mean of squares over about 20 updates instead of 1,000."""
    for step in erase(model, config):
        step.run.optimizer.param_groups[0]["betas"] = (0.9, 0.95)
    return step


def from_closed_form(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """Keys and values begin where the concept means the empty prompt and the held ones the same."""
    steps = erase(model, config)
    step = next(steps)
    edits = {target.concept: "" for target in config.concepts}
    edit = closed_form_edit(model, edits, preserve=prompts_to_hold(model, config))
    with torch.no_grad():
        for name, value in edit.tensors.items():
            step.run.trained[name].copy_(value)
    for later in steps:
        step = later
    return step


def last_words(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """The states at the last word of some prompts, `(N, D)` float64, which SPEED and OCE match."""
    ends = torch.tensor([sum(mask) - 2 for mask in model.tokenize(list(prompts))["attention_mask"]])
    return model.encode(list(prompts))[range(len(prompts)), ends].to("cpu", torch.float64)


def values_edited(edit: Callable[..., Tensor]) -> Train:
    """No update: every value matrix W becomes `edit(W, c, c_null, model, config)`."""

    def train(model: DiffusionModel, config: EraseConfig) -> EraseStep:
        step = next(erase(model, config))
        concept, null = last_words(model, [t.concept for t in config.concepts]), last_words(model, [""])
        with torch.no_grad():
            for name, value in step.run.trained.items():
                if ".to_v." in name:
                    value.copy_(edit(value.double(), concept, null, model, config))
        return step

    return train


def in_the_null_space(w: Tensor, concept: Tensor, null: Tensor, model: DiffusionModel, config) -> Tensor:
    """SPEED, the concept read as the empty prompt, everything else that the model draws as prior."""
    kept = sorted(set(staying(model)) - set(naming(model, config, staying(model))))
    return null_space_edit(w, concept, (null @ w.T).expand(len(concept), -1), last_words(model, kept))


def turned(w: Tensor, concept: Tensor, null: Tensor, model: DiffusionModel, config) -> Tensor:
    """OCE, away from the concept; gamma, lam and alpha are the authors' for an object."""
    kept = 10 * covariance(model, config)
    return orthogonal_edit(w, concept, null, kept + 10 * torch.eye(len(kept), dtype=kept.dtype), alpha=2000)


def held_where_the_concept_passes(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """32 prompts held at the erased concept's own x_t: no trajectories but the concept's."""
    examples = next(erase(model, config)).examples
    drawn = Pairs.cat(examples.train)
    prompts = prompts_to_hold(model, config, 32)
    lines = [Line(prompts[i % len(prompts)]) for i in range(len(drawn))]
    held = Labels(model, None, lines)(drawn.x_t, drawn.t)
    *_, step = erase(model, config, examples=replace(examples, preserve=held))
    return step


def holding_what_is_alike(model: DiffusionModel, config: EraseConfig) -> EraseStep:
    """What looks alike is held, too, whatever its category."""
    return straight(model, alike.holding(model, config))


@dataclass(frozen=True)
class Recipe:
    """Options that replace those of `live`, and how to train with them."""

    options: dict[str, Any] = field(default_factory=dict)
    train: Train = straight

    @property
    def of_former(self) -> dict[str, Any]:
        """The options as `bench.tried` gave them, on top of the former `live`."""
        return FORMER | self.options


RECIPES: dict[str, Recipe] = {
    "plain": Recipe(),
    "dpm++, 12 steps": Recipe({"scheduler": "dpm++"}),
    "dpm++, 8 steps": Recipe({"scheduler": "dpm++", "num_inference_steps": 8}),
    "ddim, 6 steps": Recipe({"num_inference_steps": 6}),
    "dpm++, 6 steps": Recipe({"scheduler": "dpm++", "num_inference_steps": 6}),
    "4 trajectories": Recipe({"trajectories": 4}),
    "2 trajectories": Recipe({"trajectories": 2}),
    "batch 4": Recipe({"batch_size": 4}),
    "batch 4, 4 trajectories": Recipe({"batch_size": 4, "trajectories": 4}),
    "12 updates": Recipe({"iterations": 12}),
    "8 updates, rate 2e-3": Recipe({"iterations": 8, "learning_rate": 2e-3}),
    "without preservation": Recipe({"preserve": 0.0}),
    # From here on beside a plain run of their own: the same run, and how much its time drifts.
    "plain, again": Recipe(),
    "closed form, 8 updates": Recipe({"iterations": 8}, from_closed_form),
    "until the error is flat": Recipe({"iterations": 40}, until_flat),
    "rate falls to 0": Recipe({}, at_rate(falling)),
    "preserve 2": Recipe({"preserve": 2.0}),
    "8 updates": Recipe({"iterations": 8}),
    "closed form, 4 updates": Recipe({"iterations": 4}, from_closed_form),
    "rate rises over 4 updates": Recipe({}, at_rate(rising)),
    "24 updates, rate 2e-3": Recipe({"iterations": 24, "learning_rate": 2e-3}),
    "batch 16": Recipe({"batch_size": 16}),
    "preserve 1": Recipe({"preserve": 1.0}),
    "32 updates, rate 5e-4": Recipe({"iterations": 32, "learning_rate": 5e-4}),
    "24 updates, rate 5e-4": Recipe({"iterations": 24, "learning_rate": 5e-4}),
    "closed form only": Recipe({"iterations": 0}, from_closed_form),
    "24 updates": Recipe({"iterations": 24}),
    "mean of the last half": Recipe({}, averaged),
    "24 updates, mean of the last half": Recipe({"iterations": 24}, averaged),
    "betas 0.9, 0.95": Recipe({}, quick_to_forget),
    "held at the concept's x_t": Recipe({}, held_where_the_concept_passes),
    "what is alike is held": Recipe({}, holding_what_is_alike),
    "null space of values (SPEED)": Recipe(ALONE, values_edited(in_the_null_space)),
    "orthogonal turn of values (OCE)": Recipe(ALONE, values_edited(turned)),
}
