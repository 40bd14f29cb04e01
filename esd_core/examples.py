"""The examples of a run: drawn from its teacher, picked for its updates, kept for the next run.

A run's first wait is for its teacher. The examples that the teacher leaves depend on what is erased
and on how x_t is sampled, but on neither eta, nor the train method, nor the learning rate, nor the
batch: `KeptExamples` finds them again for a run that differs only in such options.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import pairs
from esd_core.config import EraseConfig
from esd_core.models import DiffusionModel
from esd_core.pairs import Pairs
from esd_core.parallel import ALONE, Team
from esd_core.run_prompts import asked, held

# Options that the examples of a run depend on, apart from the model.
DRAWN_BY = (
    "concepts",
    "start_guidance",
    "num_inference_steps",
    "scheduler",
    "image_size",
    "x_t_source",
    "points",
    "trajectories",
    "from_objects",
    "timesteps",
    "held_out",
    "preserve_prompts",
    "seed",
)


@dataclass(frozen=True)
class Examples:
    """What a run learns from. Give a finished run's to a new one to skip its teacher."""

    train: tuple[Pairs, ...]  # one set per concept
    held_out: Pairs | None = None
    preserve: Pairs | None = None
    origin: str = ""  # what they were drawn by, see `origin`; empty if nobody else can use them

    def to(self, device: torch.device | str) -> Examples:
        """The same examples on another device."""
        held_out, preserve = (None if p is None else p.to(device) for p in (self.held_out, self.preserve))
        train = tuple(p.to(device) for p in self.train)
        return replace(self, train=train, held_out=held_out, preserve=preserve)


def origin(model: DiffusionModel, config: EraseConfig) -> str:
    """Two runs whose origins agree draw the same examples; "" if no other run can use them.

    The weights of concepts and of preservation do not count; whether anything is preserved does.
    """
    if config.redraw_every or config.x_t_source == "images":
        return ""
    values = {name: getattr(config, name) for name in DRAWN_BY}
    values["concepts"] = tuple((t.concept, t.erase_from) for t in config.concepts)
    return f"{model.fingerprint} preserve={config.preserve > 0} {values}"


def check(examples: Examples, model: DiffusionModel, config: EraseConfig) -> None:
    """Raise ValueError if the examples are known to have been drawn for something else."""
    if examples.origin and examples.origin != origin(model, config):
        raise ValueError(
            "these examples were drawn for another model, other concepts, another seed or other "
            "sampling options; leave them out and the run draws its own"
        )


class KeptExamples:
    """The examples of the last few runs; the one unused for longest goes first.

    Example:
        kept = KeptExamples()
        for step in erase(model, config, examples=kept.find(model, config)):
            kept.keep(step.examples)
    """

    def __init__(self, runs: int = 8) -> None:
        self._runs = runs
        self._known: OrderedDict[str, Examples] = OrderedDict()

    def find(self, model: DiffusionModel, config: EraseConfig) -> Examples | None:
        """Examples that a run with this config can start from at once, or None."""
        key = origin(model, config)
        if key not in self._known:
            return None
        self._known.move_to_end(key)
        return self._known[key]

    def keep(self, examples: Examples) -> None:
        """Keep them, if any other run can use them."""
        if not examples.origin:
            return
        self._known[examples.origin] = examples
        self._known.move_to_end(examples.origin)
        if len(self._known) > self._runs:
            self._known.popitem(last=False)


def draw_seeds(count: int, generator: torch.Generator) -> list[int]:
    """Seeds for `count` trajectories."""
    return torch.randint(2**31, (count,), generator=generator).tolist()


def collectable(config: EraseConfig) -> bool:
    """Whether the run's examples are those of the frozen model, drawn once, before any update."""
    return (config.x_t_source, config.points, config.redraw_every) == ("frozen", "all", 0)


def collect(model: DiffusionModel, config: EraseConfig) -> Generator[None, None, Examples]:
    """The examples that `erase` would begin with, to give to it; yields between teacher's calls.

    Raises:
        ValueError: the run is not `collectable`.
    """
    if not collectable(config):
        raise ValueError(
            "only examples of the frozen model that are drawn once can be collected beforehand; "
            "use x_t_source 'frozen', points 'all' and redraw_every 0"
        )
    generator = torch.Generator().manual_seed(config.seed)
    return (yield from draw_examples(model, model.unet, config, generator))


def draw_examples(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    config: EraseConfig,
    generator: torch.Generator,
    images: Tensor | None = None,
    team: Team = ALONE,
    preserve: Pairs | None = None,
) -> Generator[None, None, Examples]:
    """All examples of a run that keeps them (`points="all"`), or of one drawing of it.

    Args:
        unet: whose trajectories are followed: the frozen one or the one under training.
        preserve: examples of the first drawing, to keep: the frozen model does not change.
        team: shares out the trajectories; every process gets all examples.
    """
    train, held_out = [], []
    for target in config.concepts:
        if config.x_t_source == "images":
            assert images is not None
            count = (config.trajectories + config.held_out) * config.num_inference_steps
            drawn = pairs.draw_images(model, target, images, count, generator)
            lines = count // config.num_inference_steps
        else:
            lines = config.trajectories + config.held_out
            seeds = draw_seeds(lines, generator)
            asks = asked(model, target, config, lines)
            own = list(team.mine(lines))
            part = None
            if own:
                part = yield from pairs.draw_all(
                    model, unet, target, config, [seeds[i] for i in own], [asks[i] for i in own]
                )
            drawn = whole(team, part, lines, model.device)
        kept = torch.arange(len(drawn)) % lines < config.trajectories
        train.append(drawn[kept])
        held_out.append(drawn[~kept])
    if config.preserve and preserve is None:
        prompts = held(model, config)
        seeds, own, part = draw_seeds(len(prompts), generator), list(team.mine(len(prompts))), None
        if own:
            part = yield from pairs.draw_preservation(
                model, config, [prompts[i] for i in own], [seeds[i] for i in own]
            )
        preserve = whole(team, part, len(prompts), model.device)
    kept_back = Pairs.cat(held_out) if config.held_out else None
    return Examples(tuple(train), kept_back, preserve, origin(model, config))


def whole(team: Team, part: Pairs | None, lines: int, device: torch.device) -> Pairs:
    """All processes' examples in the order in which one process draws them.

    Args:
        part: this process's: for each sampling step in turn its own lines (`team.mine`); None if
            it has no line.
        lines: how many all have: trajectories, or examples if there is nothing but examples.
    """
    if team.size == 1:
        assert part is not None
        return part
    parts = team.everyones(None if part is None else part.to("cpu"))
    owned = [torch.tensor(Team(rank, team.size).mine(lines)) for rank in range(team.size)]
    held = [(found, own) for found, own in zip(parts, owned, strict=True) if found is not None]
    together = Pairs.cat([found for found, _ in held])
    # Where each example stands in the whole: step * lines + line.
    places = [(torch.arange(len(found) // len(own))[:, None] * lines + own).flatten() for found, own in held]
    ordered = together[torch.cat(places).argsort()]
    return ordered.to(device)


def draw_one(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    config: EraseConfig,
    generator: torch.Generator,
    team: Team = ALONE,
) -> Examples:
    """The examples of a single update of a run that stops its trajectories (`points="last"`)."""
    weights = torch.tensor([t.weight for t in config.concepts])
    target = config.concepts[int(torch.multinomial(weights, 1, generator=generator))]
    seeds = draw_seeds(config.trajectories, generator)
    mine = list(team.mine(len(seeds)))
    # A process without a line draws one for nothing, to stay in step with the generator.
    part = pairs.draw_last(model, unet, target, config, seeds, generator, mine or [0])
    return Examples((whole(team, part if mine else None, len(seeds), model.device),))


def pick(examples: Examples, config: EraseConfig, generator: torch.Generator) -> Pairs:
    """One update's erasing examples: a concept by weight, then one of its examples, each."""
    if len(examples.train) == 1:
        drawn = examples.train[0]
        order = torch.randperm(len(drawn), generator=generator)[: config.batch_size]
        return drawn[order.to(drawn.t.device)]
    weights = torch.tensor([t.weight for t in config.concepts])
    which = torch.multinomial(weights, config.batch_size, replacement=True, generator=generator)
    parts = []
    for index, count in zip(*which.unique(return_counts=True), strict=True):
        drawn = examples.train[int(index)]
        order = torch.randperm(len(drawn), generator=generator)[: int(count)]
        parts.append(drawn[order.to(drawn.t.device)])
    return Pairs.cat(parts)
