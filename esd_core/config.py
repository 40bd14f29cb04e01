"""Every choice of an erasing run, validated, and the presets.

A preset is a value of `EraseConfig`, not another code path. Sources: `paper` is the authors' 2023
training script `train-scripts/train-esd.py`, `official-2025` their `esd_sd.py` (both
rohitgandikota/erasing); `live` is ours, tuned on the embedded model by `bench/quality.py`, and
`live-sd` joins its trajectories to the steps of `official-2025`.
"""

from __future__ import annotations

import math
import os.path
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from esd_core import selection

XtSource = Literal["frozen", "edited", "images"]
Points = Literal["all", "last"]
FromObjects = Literal["none", "styles", "all"]
Timesteps = Literal["exact", "compvis"]
Schedule = Literal["constant", "cosine"]
Scheduler = Literal["ddim", "dpm++", "euler", "pndm"]  # classes: sampling.SCHEDULERS

# Inclusive ranges of the numeric options; the command line and the app show the same ones.
BOUNDS: dict[str, tuple[float, float]] = {
    "eta": (-20, 20),
    "start_guidance": (-20, 50),
    "iterations": (0, 100_000),
    "learning_rate": (1e-8, 1),
    "batch_size": (1, 256),
    "micro_batch_size": (1, 256),
    "num_inference_steps": (1, 999),
    "trajectories": (1, 256),
    "redraw_every": (0, 100_000),
    "held_out": (0, 64),
    "preserve": (0, 1000),
    "seed": (0, 2**31 - 1),
}
MEMORY_ONLY = ("micro_batch_size", "gradient_checkpointing")  # options that change no update
MOST_CONCEPTS = 16  # of one run: each has trajectories of its own, all kept in memory


@dataclass(frozen=True)
class Target:
    """One thing to erase."""

    concept: str
    erase_from: str | None = None  # the context that keeps everything but the concept
    weight: float = 1.0  # how often an update draws it, relative to the others


@dataclass(frozen=True)
class EraseConfig:
    """What to erase and how. The defaults are `live` for objects, without preservation.

    `concepts` also takes a string, or a list of strings and targets, of which no two are the same.

    Raises:
        ValueError: an option is out of range or unknown; the message names value and choices.
    """

    concepts: tuple[Target, ...]
    train_method: str = "esd-x"  # see esd_core.selection
    eta: float = 1.0  # erasing strength in the paper's units
    start_guidance: float = 3.0  # guidance scale while sampling x_t
    iterations: int = 20  # optimiser updates
    learning_rate: float = 1e-3  # of Adam
    learning_rate_schedule: Schedule = "constant"  # `cosine` falls to 0 over the run
    batch_size: int = 8  # erasing examples per update
    micro_batch_size: int = 256  # examples, or trajectories, at once: bounds memory
    gradient_checkpointing: bool = False  # compute activations twice: less memory, more time
    num_inference_steps: int = 12  # steps of a full trajectory
    scheduler: str = "ddim"
    image_size: int | None = None  # pixels; None is the model's own
    x_t_source: XtSource = "frozen"  # whose trajectories x_t lies on, or noised images
    points: Points = "all"  # use every x_t of a trajectory, or stop at a random one
    trajectories: int = 8  # per concept and drawing
    # Which concepts of the vocabulary are erased from another object on every trajectory, instead
    # of by their phrase alone: styles, or all that is no object. See run_prompts.asked.
    from_objects: FromObjects = "none"
    redraw_every: int = 0  # updates between drawings; 0 draws once
    timesteps: Timesteps = "exact"  # `compvis` tells the UNet a level 0-58 timesteps too high
    held_out: int = 1  # whole trajectories per concept kept back to measure the target error
    preserve: float = 0.0  # how much it counts to hold other prompts where they were; `erase.HOLD`
    preserve_prompts: tuple[str, ...] = ()  # () lets the run choose, see run_prompts
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", _as_targets(self.concepts))
        object.__setattr__(self, "preserve_prompts", tuple(self.preserve_prompts))
        object.__setattr__(self, "train_method", selection.canonical(self.train_method))
        for name, (low, high) in BOUNDS.items():
            value, whole = getattr(self, name), isinstance(getattr(type(self), name), int)
            if not (isinstance(value, int if whole else int | float) and low <= value <= high):
                kind = "whole number" if whole else "number"
                raise ValueError(f"{name} is {value!r}; use a {kind} from {low:g} to {high:.10g}")
            if not whole:  # 3 and 3.0 are the same run, also where it is written down
                object.__setattr__(self, name, float(value))
        choices = {
            "x_t_source": get_args(XtSource),
            "points": get_args(Points),
            "from_objects": get_args(FromObjects),
            "timesteps": get_args(Timesteps),
            "learning_rate_schedule": get_args(Schedule),
            "scheduler": get_args(Scheduler),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}; use one of: {', '.join(allowed)}")
        if not isinstance(self.gradient_checkpointing, bool):
            given = self.gradient_checkpointing
            raise ValueError(f"gradient_checkpointing is {given!r}; use true or false")
        if not (self.image_size is None or isinstance(self.image_size, int)):
            raise ValueError(f"image_size is {self.image_size!r}; use a whole number of pixels")
        if any(not isinstance(prompt, str) for prompt in self.preserve_prompts):
            raise ValueError(f"preserve_prompts is {self.preserve_prompts!r}; use a list of texts")
        if self.timesteps == "compvis" and (self.points, self.scheduler) != ("last", "ddim"):
            raise ValueError("timesteps 'compvis' needs points 'last' and scheduler 'ddim'")
        if self.points == "last" and (self.x_t_source == "images" or self.preserve):
            raise ValueError("x_t_source 'images' and preserve above 0 need points 'all'")
        if self.points == "last" and self.from_objects != "none":
            raise ValueError(f"from_objects {self.from_objects!r} needs points 'all'")

    def to_dict(self) -> dict[str, Any]:
        """What `json` can write; `from_dict` inverts it, before and after JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EraseConfig:
        """Build from `to_dict`'s result, refusing whatever else it may be given.

        Raises:
            ValueError: a name is no option, or a value is of the wrong kind or out of range.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise ValueError(f"unknown option {unknown[0]!r}")
        try:
            return cls(**values)
        except (TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"these options are of the wrong kind: {error}") from error


def _as_targets(concepts: Any) -> tuple[Target, ...]:  # noqa: ANN401
    """Normalise what `EraseConfig.concepts` accepts."""
    items = [concepts] if isinstance(concepts, str | Target) else list(concepts or ())
    refuse_too_many(len(items))
    targets = tuple(
        Target(c) if isinstance(c, str) else Target(**c) if isinstance(c, dict) else c for c in items
    )
    targets = tuple(replace(t, erase_from=t.erase_from or None) for t in targets)
    if not targets or any(not t.concept.strip() for t in targets):
        raise ValueError("name at least one concept to erase, for example 'a cat'")
    if any(not isinstance(t.erase_from, str | None) for t in targets):
        raise ValueError("erase_from must be a text")
    if any(not (math.isfinite(t.weight) and t.weight > 0) for t in targets):
        raise ValueError("the weight of a concept must be above 0")
    named = [(t.concept, t.erase_from) for t in targets]
    if twice := next((pair for i, pair in enumerate(named) if pair in named[:i]), None):
        raise ValueError(f"{twice[0]!r} is named twice; name each concept once")
    return targets


def refuse_too_many(concepts: int) -> None:
    """Raise ValueError if one run cannot erase so many concepts."""
    if concepts > MOST_CONCEPTS:
        raise ValueError(f"{concepts} concepts are too many; erase {MOST_CONCEPTS} or fewer a run")


PRESETS: dict[str, dict[str, Any]] = {
    # Fewer updates than it takes to fit, and other prompts held: bench/results compares it with
    # more updates, with none held, and with styles erased by their own phrase alone.
    "live": dict(preserve=0.5, from_objects="styles"),
    # For other models, as the steps of `live` fit the embedded one only: those that the authors
    # take for Stable Diffusion, and as many, but on all points of eight trajectories.
    "live-sd": dict(iterations=200, learning_rate=5e-5, batch_size=1, num_inference_steps=25),
    # One fresh trajectory of the edited model per update, stopped at a random step, and the
    # original's timestep quirk (`pairs.draw_last` explains it).
    "paper": dict(
        iterations=1000,
        learning_rate=1e-5,
        batch_size=1,
        num_inference_steps=50,
        x_t_source="edited",
        points="last",
        trajectories=1,
        redraw_every=1,
        timesteps="compvis",
        held_out=0,
        preserve=0.0,
    ),
    # Its default `--negative_guidance 2` is the paper's eta 1 (see objective.eta_from_official).
    # It also trains in bfloat16 and draws SD 1.4 at 1024 pixels; we keep float32 and the model's
    # own size.
    "official-2025": dict(
        iterations=200,
        learning_rate=5e-5,
        batch_size=1,
        num_inference_steps=50,
        scheduler="pndm",
        points="last",
        trajectories=1,
        redraw_every=1,
        held_out=0,
        preserve=0.0,
    ),
}

# Of the embedded model: at twice this rate the rest of what it draws suffers and hardly more goes;
# at two thirds of it more is left of styles (bench/README.md, "What was tried"). Methods that train
# many more weights, such as esd-u, take smaller steps.
LIVE_CROSS_ATTENTION_RATE = 1.5e-3


def usual_preset(model: str) -> str:
    """The preset for a model, `load_model`'s name for it, if none is asked for: `live` for the
    embedded one and folders that, like its own, list what it draws; else `live-sd`."""
    alike = model == "emoji" or os.path.isfile(os.path.join(model, "concepts.json"))
    return "live" if alike else "live-sd"


def preset(name: str, concepts: str | Sequence[str | Target], **overrides: Any) -> EraseConfig:
    """A preset, by its name in PRESETS, for these concepts, with options replaced.

    `live` takes larger steps where only cross-attention is trained, unless told `learning_rate`.

    Raises:
        ValueError: the preset or an option is unknown.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of: {', '.join(PRESETS)}")
    options = {"concepts": concepts, **PRESETS[name], **overrides}
    method = selection.canonical(options.get("train_method", EraseConfig.train_method))
    if name == "live" and method in ("esd-x", "esd-x-strict"):
        options.setdefault("learning_rate", LIVE_CROSS_ATTENTION_RATE)
    return EraseConfig.from_dict(options)
