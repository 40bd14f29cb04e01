"""The examples of a run: drawn from its teacher, picked for its updates, kept for the next run.

A run first waits for its teacher. What the teacher leaves depends on what is erased and on how x_t is
sampled, but on neither eta, nor the train method, nor the learning rate, nor the batch: `KeptExamples` finds
it again for a run that differs only in such options.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from esd_core.config import EraseConfig
from esd_core.models import DiffusionModel, fingerprint
from esd_core.prompts import Line, asked, held
from esd_core.teacher import Pairs, Teacher

# Options that the examples of a run depend on, apart from the model.
DRAWN_BY = "start_guidance num_inference_steps scheduler image_size x_t_source points trajectories"
DRAWN_BY += " from_objects timesteps held_out preserve_prompts seed"


@dataclass(frozen=True, eq=False)
class Examples:
    """What a run learns from. Give a finished run's to a new one to skip its teacher."""

    train: tuple[Pairs, ...]  # one set per concept
    held_out: Pairs | None = None
    preserve: Pairs | None = None
    origin: str = ""  # what they were drawn by, see `origin`; empty if nobody else can use them

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on another device."""
        held_out, preserve = (p and p.to(device) for p in (self.held_out, self.preserve))
        train = tuple(p.to(device) for p in self.train)
        return replace(self, train=train, held_out=held_out, preserve=preserve)


def origin(model: DiffusionModel, config: EraseConfig) -> str:
    """Two runs whose origins agree draw the same examples; "" if no other run can use them.

    The weights of concepts and of preservation do not count; whether anything is preserved does.
    """
    if config.redraw_every or config.x_t_source == "images":
        return ""
    drawn_by = {name: getattr(config, name) for name in DRAWN_BY.split()}
    concepts = [(t.concept, t.erase_from) for t in config.concepts]
    by = (model.fingerprint, fingerprint(model.text_encoder), model.unet.dtype, model.device)
    return f"{by} {dict(model.scheduler.config)} {concepts} preserve={config.preserve > 0} {drawn_by}"


class KeptExamples:
    """The examples of the last few runs; the one unused for longest goes first.

    Example:
        kept = KeptExamples()
        for step in erase(model, config, examples=kept.find(model, config)):
            kept.keep(step.examples)
    """

    def __init__(self, runs: int = 8) -> None:
        self._runs = runs
        self._known: dict[str, Examples] = {}

    def find(self, model: DiffusionModel, config: EraseConfig) -> Examples | None:
        """Examples that a run with this config can start from at once, or None."""
        if found := self._known.get(origin(model, config)):
            self.keep(found)
        return found

    def keep(self, examples: Examples) -> None:
        """Keep them, if any other run can use them."""
        if examples.origin:
            self._known.pop(examples.origin, None)
            self._known[examples.origin] = examples  # the last one
        if len(self._known) > self._runs:
            del self._known[next(iter(self._known))]


def needed(config: EraseConfig) -> bool:
    """Whether the run has any use for examples: an edit alone has none."""
    return bool(config.iterations or config.held_out)


def collect(model: DiffusionModel, config: EraseConfig) -> Generator[Pairs, None, Examples | None]:
    """The examples that `erase` would begin with, to give to it; yields those of each sampling step. None, at
    once, for a run without any, or whose examples are not the frozen model's, drawn once."""
    if not needed(config) or (config.x_t_source, config.points, config.redraw_every) != ("frozen", "all", 0):
        return None
    return (yield from draw(Teacher(model, config), torch.Generator().manual_seed(config.seed)))


def draw(
    teacher: Teacher, generator: torch.Generator, images: Tensor | None = None, preserve: Pairs | None = None
) -> Generator[Pairs, None, Examples]:
    """All examples of a run, or of one drawing of it: from trajectories, or from pictures `(M, 3, H, W)` in
    [0, 1]. `preserve` are those of the first drawing, to keep, as the frozen model does not change.
    ValueError if the frozen model predicts no finite numbers, so that there is nothing to learn from."""
    if teacher.config.points == "last":
        examples = Examples((draw_one(teacher, generator),))
    else:
        examples = yield from draw_all(teacher, generator, images, preserve)
    if not all(torch.isfinite(drawn.concept).all() for drawn in examples.train):
        raise ValueError(
            f"{teacher.model.short_name!r} itself predicts numbers that are not finite, at whatever rate: "
            "look at the scheduler's config (prediction_type, rescale_betas_zero_snr), or load it in float32"
        )
    return examples


def draw_all(
    teacher: Teacher, generator: torch.Generator, images: Tensor | None, preserve: Pairs | None
) -> Generator[Pairs, None, Examples]:
    """Those of whole trajectories."""
    model, config = teacher.model, teacher.config
    lines, train, held_out = config.trajectories + config.held_out, [], []
    for target in config.concepts:
        if images is not None:
            drawn = teacher.images(target, images, lines * config.num_inference_steps, generator)
        else:
            asks = asked(model, target, config, draw_seeds(lines, generator))
            drawn = yield from teacher.walked(target, asks)
        kept = torch.arange(len(drawn)) % lines < config.trajectories
        train.append(drawn[kept])
        held_out.append(drawn[~kept])
    if config.preserve and preserve is None:
        prompts = held(model, config)
        seeds = draw_seeds(len(prompts), generator)
        holding = [Line(prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        preserve = yield from teacher.walked(None, holding)
    kept_back = Pairs.cat(held_out) if config.held_out else None
    return Examples(tuple(train), kept_back, preserve, origin(model, config))


def draw_one(teacher: Teacher, generator: torch.Generator) -> Pairs:
    """Those of a single update of a run that stops its trajectories (`points="last"`)."""
    concepts = teacher.config.concepts
    weights = torch.tensor([t.weight for t in concepts])
    target = concepts[int(torch.multinomial(weights, 1, generator=generator))]
    return teacher.stopped(target, draw_seeds(teacher.config.trajectories, generator), generator)


def draw_seeds(count: int, generator: torch.Generator) -> list[int]:
    """Seeds for `count` trajectories."""
    return torch.randint(2**31, (count,), generator=generator).tolist()


def pick(examples: Examples, config: EraseConfig, generator: torch.Generator) -> Pairs:
    """One update's erasing examples: a concept by weight, then one of its examples, each."""
    counts = [config.batch_size]
    if len(examples.train) > 1:
        weights = torch.tensor([t.weight for t in config.concepts])
        which = torch.multinomial(weights, config.batch_size, replacement=True, generator=generator)
        counts = which.bincount(minlength=len(weights)).tolist()
    some = [(drawn, n) for drawn, n in zip(examples.train, counts, strict=True) if n]
    return Pairs.cat([pick_some(drawn, n, generator) for drawn, n in some])


def pick_some(drawn: Pairs, count: int, generator: torch.Generator) -> Pairs:
    """So many of them, each once; all if there are no more."""
    return drawn[torch.randperm(len(drawn), generator=generator)[:count].to(drawn.t.device)]
