"""A command-line option for every field of `EraseConfig`, described by its bounds and presets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

from esd_core.cli.command_options import option
from esd_core.config import OPTIONS as DECLARED
from esd_core.config import PRESETS, EraseConfig, preset
from esd_core.selection import ALIASES, TRAIN_METHODS

# Field of EraseConfig -> its options and what they mean.
OPTIONS: dict[str, tuple[str, str]] = {
    "train_method": (
        "--train-method",
        f"Which weights to train: {', '.join(TRAIN_METHODS)}; other names: {', '.join(ALIASES)}",
    ),
    "eta": (
        "--eta --negative-guidance",
        "Erasing strength in the paper's units; the authors' 2025 script counts one more",
    ),
    "start_guidance": ("--start-guidance", "Guidance scale while sampling x_t"),
    "iterations": ("--iterations", "Optimiser updates"),
    "learning_rate": ("--learning-rate --lr", "Of Adam"),
    "batch_size": ("--batch-size", "Erasing examples per update"),
    "micro_batch_size": (
        "--micro-batch-size",
        "Examples, or trajectories, at once: fewer need less memory, for the same update",
    ),
    "gradient_checkpointing": (
        "--gradient-checkpointing",
        "Compute activations a second time instead of keeping them: less memory, more time",
    ),
    "num_inference_steps": (
        "--steps --num-inference-steps --ddim-steps",
        "Sampling steps of a full trajectory",
    ),
    "scheduler": ("--scheduler", "Samples x_t: ddim, dpm++, euler or pndm"),
    "image_size": ("--image-size", "Pixels a side"),
    "x_t_source": (
        "--x-t-source",
        "Whose trajectories x_t lies on: frozen or edited (the model "
        "under training); or images (given ones, noised)",
    ),
    "points": ("--points", "Learn from all x_t of a trajectory, or stop it at random and take the last"),
    "trajectories": ("--trajectories", "Per concept and drawing"),
    "from_objects": (
        "--from-objects",
        "Erase styles from another object on every trajectory, not by their phrase alone: none, styles",
    ),
    "redraw_every": ("--redraw-every", "Updates between drawings of examples; 0 draws once"),
    "timesteps": ("--timesteps", "exact, or compvis for the 2023 script's timestep quirk"),
    "held_out": ("--held-out", "Trajectories per concept kept from training, to measure the target error"),
    "preserve": ("--preserve", "How much it counts to hold other prompts where they were"),
    "preserve_prompts": (
        "--preserve-prompt --preserve-prompts",
        "Hold this one; repeatable; default: chosen from the model's vocabulary",
    ),
    "seed": ("--seed", "Of the whole run"),
}


def described(name: str) -> str:
    """An option's help: meaning, range, and the default, in each preset if they differ."""
    _, text = OPTIONS[name]
    if DECLARED[name].bounds[1] < float("inf"):
        low, high = DECLARED[name].bounds
        text += f"; {low} to {high}"
    default = getattr(EraseConfig, name)
    if default is None:
        return f"{text}; default: the model's own."
    if default == ():
        return f"{text}."
    own = {p: getattr(preset(p, "anything"), name) for p in PRESETS}
    each = ", ".join(f"{p} {value}" for p, value in own.items())
    return f"{text}; default: {each if len(set(own.values())) > 1 else default}."


def with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `**options` by one option per entry of OPTIONS, None if not given.

    They stand before `model`, as `--help` lists options in the order of the signature.
    """
    signature = inspect.signature(command, eval_str=True)
    given = [p for p in signature.parameters.values() if p.kind != p.VAR_KEYWORD]
    own = [p.replace(kind=p.KEYWORD_ONLY) for p in given]
    added = []
    for name, (flags, _) in OPTIONS.items():
        default = getattr(EraseConfig, name)
        kind: Any = int if default is None else list[str] if default == () else type(default)
        annotation = Annotated[kind | None, option(described(name), *flags.split(), panel="Erasing")]
        keyword = inspect.Parameter.KEYWORD_ONLY
        added.append(inspect.Parameter(name, keyword, default=None, annotation=annotation))
    at = [p.name for p in own].index("model")
    ordered = [*own[:at], *added, *own[at:]]
    command.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    return command
