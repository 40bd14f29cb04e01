"""From the fields of the Erase tab to a run's options, and back."""

from __future__ import annotations

import secrets
from dataclasses import replace
from functools import lru_cache
from typing import Any

import gradio as gr

from esd_core import PRESETS, DiffusionModel, EraseConfig, preset
from esd_core.config import MEMORY_ONLY, SEEDS
from esd_core.erasing import refuse_nothing
from ui.shared import erasure_text, prompts

# What a preset fills in; its other options stay behind the scenes.
OF_PRESET = (
    "iterations",
    "learning_rate",
    "batch_size",
    "start_guidance",
    "num_inference_steps",
    "x_t_source",
    "preserve",
)
# How refusals begin that are about a field without beginning with its name.
ABOUT = {
    "train_method": ("unknown train method",),
    "preset": ("unknown preset",),
    "preserve": ("x_t_source 'images', preserve",),
    "batch_size": ("points 'last'",),
    "eta": ("with eta",),
}


def read(model: DiffusionModel, randomise: bool = False, **values: Any) -> EraseConfig:  # noqa: ANN401
    """The run that the fields describe, with a new seed each time if `randomise`.

    Raises:
        ValueError: a field holds what `esd_core` refuses.
    """
    if not randomise:
        return _read(model, **values)
    return replace(_read(model, **{**values, "seed": 0}), seed=secrets.randbelow(SEEDS[1] + 1))


@lru_cache(maxsize=64)
def _read(model: DiffusionModel, concept: str, erase_from: str, **options: Any) -> EraseConfig:  # noqa: ANN401
    """Kept, because every event checks the fields before it uses them."""
    concepts = prompts.targets(model, concept, erase_from)
    config = preset(options.pop("preset"), concepts, **options)
    # The text encoder refuses what it cannot read, and a run what the model reads as the empty prompt.
    refuse_nothing(model, config)
    with prompts.of_context(erase_from):
        model.encode([t.erase_from or "" for t in concepts])
    return config


def check(model: DiffusionModel, **values: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Before anything runs: which field is wrong, and why, said beside it."""
    wrong, message = "", ""
    try:
        read(model, **values)
    except ValueError as refused:
        message = str(refused)
        wrong = next((n for n in values if message.startswith((f"{n} is ", *ABOUT.get(n, ())))), "concept")
    return [gr.validate(name != wrong, message) for name in values]


def fill(name: str, method: str = "esd-x") -> list[Any]:
    """A preset's values for a method, for the fields that show them."""
    config = preset(name, "anything", train_method=method)
    return [getattr(config, option) for option in OF_PRESET]


def recall(config: EraseConfig) -> dict[str, Any]:
    """The fields that describe a run, but for how little memory it took; `read` inverts it.

    Raises:
        ValueError: the run has options that no field shows.
    """
    config = replace(config, **{name: getattr(EraseConfig, name) for name in MEMORY_ONLY})
    shown: dict[str, Any] = {name: getattr(config, name) for name in OF_PRESET}
    shown |= dict(train_method=config.train_method, eta=config.eta, seed=config.seed)
    contexts = [t.erase_from or "" for t in config.concepts]
    texts = dict(concept=erasure_text.of_run(config), erase_from=", ".join(contexts) if any(contexts) else "")
    same = all(t.weight == 1 and "," not in t.concept for t in config.concepts)
    for name in PRESETS:
        if same and preset(name, config.concepts, **shown) == config:
            return {**shown, **texts, "preset": name, "randomise": False}
    raise ValueError("its run has options that this page does not show; repeat it with Python")
