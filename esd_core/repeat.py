"""How to do a run again: its options as a command line and as a Python program."""

from __future__ import annotations

import shlex
from typing import Any

from esd_core.cli.config_options import OPTIONS
from esd_core.config import PRESETS, EraseConfig, Target, preset, usual_preset


def nearest_preset(config: EraseConfig) -> tuple[str, dict[str, Any]]:
    """The preset with the fewest options to change, and those options with their values."""
    own = config.to_dict()
    changes = {}
    for name in PRESETS:
        default = preset(name, config.concepts, train_method=config.train_method).to_dict()
        default["train_method"] = EraseConfig.train_method
        changes[name] = {k: v for k, v in own.items() if v != default[k]}
    name = min(changes, key=lambda name: len(changes[name]))
    return name, changes[name]


def command_line(config: EraseConfig, model: str = "emoji") -> str:
    """The `python -m esd_core erase` command of a run with these options."""
    name, changed = nearest_preset(config)
    words = [] if model == "emoji" else [f"--model={model}"]
    words += [] if name == usual_preset(model) else [f"--preset={name}"]
    contexts = [t.erase_from or "" for t in config.concepts]
    if any(contexts):
        words += [f"--erase-from={context}" for context in contexts]
    if any(t.weight != 1 for t in config.concepts):
        words += [f"--weight={t.weight!r}" for t in config.concepts]
    for option, value in changed.items():
        values = value if isinstance(value, list | tuple) else [value]
        flag = OPTIONS[option][0].split()[0]
        words += [flag if v is True else f"{flag}={v}" for v in values]
    erased = [t.concept for t in config.concepts]
    words += ["--"] if any(concept.startswith("-") for concept in erased) else []
    return shlex.join(["python", "-m", "esd_core", "erase", *words, *erased])


def python_code(config: EraseConfig, model: str = "emoji") -> str:
    """A Python program for the same run."""
    name, changed = nearest_preset(config)
    plain = config.concepts == tuple(Target(t.concept) for t in config.concepts)
    named = [t.concept for t in config.concepts] if plain else list(config.concepts)
    first = repr(named[0] if len(named) == 1 else named)
    arguments = [repr(name), first, *(f"{k}={v!r}" for k, v in changed.items())]
    names = ["erase", "load_model", "preset"] if plain else ["Target", "erase", "load_model", "preset"]
    return "\n".join(
        [
            f"from esd_core import {', '.join(names)}",
            "",
            f"model = load_model({model!r})",
            f"config = preset({', '.join(arguments)})",
            "for step in erase(model, config):",
            "    print(step.iteration, step.loss)",
            'step.erasure.save("erasure.safetensors")',
        ]
    )
