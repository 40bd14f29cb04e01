"""Every option of an erasing run, declared once: type, default, range and meaning.

What is refused, the command line, the app's fields and the run card follow from the declaration. A preset
is a value of `EraseConfig`, not another code path. Sources: `paper` is the authors' 2023 training script
`train-scripts/train-esd.py`, `official-2025` their `esd_sd.py`, `official-2026` their `utils/esd_trainer.py`
(rohitgandikota/erasing; March 2026, 2ff19a1); the others are ours, `live` tuned by `bench/quality.py`.
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from esd_core import selection
from esd_core.support.strict import as_tuple, options, strict, within

Scheduler = Literal["ddim", "dpm++", "euler", "pndm"]  # classes: sampling.SCHEDULERS
GUIDANCE = (-100.0, 100.0)  # of sampling, everywhere; beyond, nothing but noise is drawn
SEEDS = (0, 2**32 - 1)
STEPS = (1, 999)  # of sampling; with Stable Diffusion's offset of 1, a 1000th has no alpha_bar
MEMORY_ONLY = ("micro_batch_size", "gradient_checkpointing")  # options that change no update but by rounding
MOST_CONCEPTS = 16  # of one run: each has trajectories of its own, all kept in memory
# Options of former versions, by the one value that runs still have.
RETIRED = {"learning_rate_schedule": "constant"}


def _stripped(text: Any) -> Any:  # noqa: ANN401
    return text.strip() if isinstance(text, str) else text


@strict
class Target:
    """One thing to erase."""

    concept: Annotated[str, BeforeValidator(_stripped)]
    erase_from: Annotated[str | None, BeforeValidator(lambda text: _stripped(text) or None)] = None
    """The context that keeps everything but the concept; blank is none."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """How often an update draws it, relative to the others; above 0."""

    @property
    def drawn(self) -> str:
        """What its trajectories ask for: the context, or else the concept."""
        return self.erase_from or self.concept


def _as_targets(concepts: Any) -> tuple[Target, ...]:  # noqa: ANN401
    """Normalise what `EraseConfig.concepts` accepts."""
    items = [concepts] if isinstance(concepts, str | Target) else concepts or ()
    if not isinstance(items, list | tuple):
        raise ValueError(f"concepts is {concepts!r}; use a text, or a list of texts and targets")
    refuse_too_many(len(items))
    made = (Target(**c) if isinstance(c, dict) else c if isinstance(c, Target) else Target(c) for c in items)
    targets = tuple(made)
    if not targets or any(not target.concept for target in targets):
        raise ValueError("name at least one concept to erase, for example 'a cat'")
    # The tokenizers of these models read neither case nor the width of a space.
    named = [f"{t.concept} | {t.erase_from}".lower().split() for t in targets]
    if twice := next((t.concept for i, t in enumerate(targets) if named[i] in named[:i]), None):
        raise ValueError(f"{twice!r} is named twice; name each concept once")
    return targets


def refuse_too_many(concepts: int) -> None:
    """Raise ValueError if one run cannot erase so many concepts."""
    if concepts > MOST_CONCEPTS:
        raise ValueError(f"{concepts} concepts are too many; erase {MOST_CONCEPTS} or fewer a run")


TrainMethod = Annotated[
    str, BeforeValidator(selection.canonical), Field(json_schema_extra={"choices": selection.TRAIN_METHODS})
]


@strict
class EraseConfig:
    """What to erase and how; presets give other values than the defaults.

    `concepts` also takes a string, or a list of strings and targets, of which no two are the same. ValueError
    if an option is out of range or unknown, or options exclude each other; the message names value and
    choices.
    """

    concepts: Annotated[tuple[Target, ...], BeforeValidator(_as_targets)]
    train_method: TrainMethod = "esd-x"
    """Which weights to train; see esd_core.selection"""
    eta: Annotated[float, within((-20, 20))] = 1.0
    """Erasing strength in the paper's units; the authors' 2025 script counts one more"""
    start_guidance: Annotated[float, within(GUIDANCE)] = 3.0
    """Guidance scale while sampling x_t"""
    iterations: Annotated[int, within((0, 100_000))] = 20
    """Optimiser updates"""
    learning_rate: Annotated[float, within((1e-8, 1))] = 1e-3
    """Of Adam"""
    rank: Annotated[int, within((1, 64))] = 1
    """Of esd-lora: directions per concept in which keys and values change"""
    lam: Annotated[float, within((1e-6, 100))] = 1e-3
    """Of esd-lora: how far a direction must stand out from what shall stay; larger spares and erases less"""
    edit: Annotated[float, within((0, 2))] = 0.0
    """Of esd-lora: begin with the closed-form edit at this strength; 1 is the erasing target of the states"""
    batch_size: Annotated[int, within((1, 256))] = 8
    """Erasing examples per update"""
    micro_batch_size: Annotated[int, within((1, 256))] = 256
    """Examples, or trajectories, at once: fewer need less memory"""
    gradient_checkpointing: bool = False
    """Compute activations a second time instead of keeping them: less memory, more time"""
    num_inference_steps: Annotated[int, within(STEPS)] = 12
    """Sampling steps of a full trajectory"""
    scheduler: Scheduler = "ddim"
    """Samples x_t"""
    image_size: int | None = None
    """Pixels a side; the model's own if not given"""
    x_t_source: Literal["frozen", "edited", "images"] = "frozen"
    """Whose trajectories x_t lies on: the frozen model's, or those of the edited one, which is under
    training; or images: given ones, noised"""
    points: Literal["all", "last"] = "all"
    """Learn from all x_t of a trajectory, or stop it at random and take the last"""
    trajectories: Annotated[int, within((1, 256))] = 8
    """Per concept and drawing"""
    from_objects: Literal["none", "styles"] = "none"
    """Erase styles of the vocabulary from another object on every trajectory, not by their phrase alone"""
    redraw_every: Annotated[int, within((0, 100_000))] = 0
    """Updates between drawings of examples; 0 draws once"""
    timesteps: Literal["exact", "compvis"] = "exact"
    """exact, or compvis for the 2023 script's, which tell the UNet a level 0 to 58 timesteps too high"""
    held_out: Annotated[int, within((0, 64))] = 1
    """Trajectories per concept kept from training, to measure the target error"""
    preserve: Annotated[float, within((0, 1000))] = 0.0
    """How much it counts to hold other prompts where they were"""
    preserve_prompts: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = ()
    """What shall stay before all else; chosen from the model's vocabulary if none is given"""
    seed: Annotated[int, within(SEEDS)] = 0
    """Of the whole run"""

    def __post_init__(self) -> None:
        last, images = self.points == "last", self.x_t_source == "images"
        if self.train_method != "esd-lora" and (self.rank, self.lam, self.edit) != (1, 1e-3, 0):
            raise ValueError("rank, lam and edit are options of train method 'esd-lora'; leave them out")
        if self.timesteps == "compvis" and not (last and self.scheduler == "ddim"):
            raise ValueError("timesteps 'compvis' needs points 'last' and scheduler 'ddim'")
        if last and (images or self.preserve or self.from_objects != "none"):
            raise ValueError("x_t_source 'images', preserve and from_objects need points 'all'")
        if last and (self.held_out or not self.redraw_every or self.batch_size != self.trajectories):
            raise ValueError(
                "points 'last' learns from fresh trajectories, an example each: it needs held_out 0, "
                "redraw_every of 1 or more, and as many trajectories as batch_size"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON values only; `from_dict` inverts it."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EraseConfig:
        """Build from `to_dict`'s result, that of former versions, or refuse whatever else it may be given.
        ValueError if a name is no option, or a value is of the wrong kind or out of range."""
        return cls(**{name: value for name, value in values.items() if RETIRED.get(name, ...) != value})


OPTIONS = options(EraseConfig)

_PLACED = dict(train_method="esd-lora", from_objects="styles")
# The authors' scripts: every update learns from one fresh trajectory, stopped at a random step.
_LAST = dict(points="last", redraw_every=1, trajectories=1, batch_size=1, num_inference_steps=50, held_out=0)
PRESETS: dict[str, dict[str, Any]] = {
    # The closed-form edit to begin with, then a few updates of its content: bench/results/quality-live.md.
    "live": dict(_PLACED, edit=0.7, iterations=12, learning_rate=0.05, trajectories=4, num_inference_steps=8),
    # No teacher: what the target says of text states, solved for. Updates asked for have the rate of `live`.
    "edit": dict(_PLACED, edit=1.0, iterations=0, held_out=0, learning_rate=0.05),
    # For other models, whose keys and values may be larger or smaller: as far as `live`, in shorter steps.
    "live-sd": dict(_PLACED, edit=0.7, iterations=50, learning_rate=0.01, batch_size=4),
    # The trajectories are the edited model's; `teacher.stopped` explains the timestep quirk.
    "paper": dict(_LAST, iterations=1000, learning_rate=1e-5, x_t_source="edited", timesteps="compvis"),
    # Its default `--negative_guidance 2` is the paper's eta 1 (see objective.eta_to_official). It also
    # trains in bfloat16, as 2026, and draws SD 1.4 at 1024 pixels; we keep float32 and the model's own size.
    "official-2025": dict(_LAST, iterations=200, learning_rate=5e-5, scheduler="pndm"),
}
PRESETS["official-2026"] = PRESETS["official-2025"]  # for SD; SDXL and FLUX have other numbers

# With another train method, which moves other pictures more. `live`: fewer updates than it takes to fit,
# other prompts held, and larger steps in cross-attention: twice this rate harms the rest, two thirds leave
# more of styles (bench/results). `live-sd`: the authors' steps, on all points of eight trajectories.
FINE_TUNED: dict[str, dict[str, Any]] = {
    "live": dict(preserve=0.5, from_objects="styles", learning_rate=1.5e-3),
    "live-sd": dict(iterations=200, learning_rate=5e-5, batch_size=1, num_inference_steps=25),
}


def usual_preset(model: str) -> str:
    """The preset for a model, `load_model`'s name for it, if none is asked for: `live` for the embedded one
    and folders that, like its own, list what it draws; else `live-sd`."""
    alike = model == "emoji" or os.path.isfile(os.path.join(model, "concepts.json"))
    return "live" if alike else "live-sd"


def preset(name: str, concepts: str | Sequence[str | Target], **overrides: Any) -> EraseConfig:
    """A preset, by its name in PRESETS, for these concepts, with options replaced.

    Told another train method, `live` and `live-sd` have options of that method's. ValueError if the preset or
    an option is unknown, or the preset has none for the method.
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; choose one of: {', '.join(PRESETS)}")
    values = PRESETS[name]
    own = values.get("train_method", EraseConfig.train_method)
    method = selection.canonical(overrides.get("train_method", own))
    if (method == "esd-lora") != (own == "esd-lora"):
        if name not in FINE_TUNED:
            raise ValueError(f"preset {name!r} has no options for {method!r}; live and live-sd have")
        values = FINE_TUNED[name]
        if name == "live" and method not in ("esd-x", "esd-x-strict"):
            values = values | {"learning_rate": EraseConfig.learning_rate}
    return EraseConfig.from_dict({"concepts": concepts, **values, **overrides})
