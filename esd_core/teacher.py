"""The teacher: the frozen model's examples, which an erasing run learns from.

One example is a noisy latent x_t, its timestep, and what the frozen model predicts there: for the empty
prompt, for the concept and, if the concept is erased from a context, for that context. Guided sampling of
the concept with the frozen model computes the first two at every step it makes, so every step of it yields
finished examples. They depend on neither eta, nor the train method, nor the learning rate: keep them, and a
second run is pure regression.

What follows trajectories is a generator, so that an app can stop it or let others compute in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import denoise
from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel
from esd_core.prompts import Line
from esd_core.sampling import Step, sample
from esd_core.support.parallel import ALONE, Team

AT_ONCE = 16  # trajectories or examples at most; bounds memory on large models
HELD_STEPS = 6  # at most, of a trajectory that holds another prompt


@dataclass(frozen=True, eq=False)
class Pairs:
    """N examples. All outputs are the UNet's own kind (eps or v), `(N, C, h, w)`."""

    x_t: Tensor
    t: Tensor  # (N,)
    null: Tensor  # frozen, empty prompt, or the prompt without the concept: `prompts.asked`
    concept: Tensor  # frozen, concept
    centre: Tensor  # frozen, context if there is one, else the same as null
    frozen: Tensor  # frozen, the prompt under which the edited model is trained
    embeds: Tensor  # (N, L, D), that prompt

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: Tensor | slice) -> Pairs:
        return Pairs._each([self], lambda values: values[0][index])

    def to(self, device: torch.device | str) -> Pairs:
        """The same examples on another device; not copied if they are there."""
        return Pairs._each([self], lambda values: values[0].to(device))

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """All examples of several sets."""
        return Pairs._each(parts, torch.cat)

    @staticmethod
    def _each(parts: Sequence[Pairs], make: Callable[[list[Tensor]], Tensor]) -> Pairs:
        """Field by field; what is one tensor, as `null` and `centre` mostly are, stays one."""
        made: dict[tuple[int, ...], Tensor] = {}
        columns = [[getattr(part, f.name) for part in parts] for f in fields(Pairs)]
        keys = [tuple(map(id, column)) for column in columns]
        for key, column in zip(keys, columns, strict=True):
            made[key] = made[key] if key in made else make(column)
        return Pairs(*(made[key] for key in keys))


@dataclass(frozen=True)
class Teacher:
    """The frozen model of a run, which knows the run's options and shares out its trajectories.

    Every process gets all examples, in the order in which one process has them: for each sampling step in
    turn, one of each line.
    """

    model: DiffusionModel
    config: EraseConfig
    unet: UNet2DConditionModel | None = None  # whose trajectories are followed; None is the frozen one
    team: Team = ALONE

    @property
    def at_once(self) -> int:
        """Trajectories, or examples, in one batch."""
        return min(AT_ONCE, self.config.micro_batch_size)

    def trajectories(self, target: Target | None, lines: Sequence[Line]) -> Iterator[Pairs]:
        """Follow guided trajectories together; every sampling step yields an example of each.

        The target is what is erased. None holds the prompts where they are: on short trajectories of the
        frozen model, whose output is the target. What a prompt draws is decided on its own trajectory; held
        only where the erased concept passes, as it is cheaper to do, pictures change more (bench/README.md).
        """
        label, steps = Labels(self.model, target, lines), self.config.num_inference_steps
        following = self if target else replace(self, unet=None)
        span = dict(num_inference_steps=steps if target else min(HELD_STEPS, steps))
        for step in following.sample(lines, keep_pair=following.unet is None, **span):
            known = (step.output_null, step.output_cond) if following.unet is None else ()
            yield label(step.x_t, step.t.long().expand(len(lines)), *known)

    def sample(self, lines: Sequence[Line], **options: Any) -> Iterator[Step]:
        """Steps of guided sampling as the run's options want it, or `options`."""
        names = ("num_inference_steps", "scheduler", "image_size")
        wanted = {name: getattr(self.config, name) for name in names} | options
        wanted |= dict(guidance_scale=self.config.start_guidance, unet=self.unet)
        prompts, seeds = [line.prompt for line in lines], [line.seed for line in lines]
        return sample(self.model, prompts, seeds=seeds, **wanted)

    def walked(self, target: Target | None, lines: Sequence[Line]) -> Generator[Pairs, None, Pairs]:
        """Whole trajectories, a few at once; yields what `trajectories` does, returns all examples."""
        mine, parts = [lines[i] for i in self.team.mine(len(lines))], list[list[Pairs]]()
        for first in range(0, len(mine), self.at_once):
            parts.append([])
            for examples in self.trajectories(target, mine[first : first + self.at_once]):
                parts[-1].append(examples)
                yield examples
        return Pairs.cat([few for step in zip(*self._everyones(parts), strict=True) for few in step])

    def _everyones(self, parts: list[list[Pairs]]) -> list[list[Pairs]]:
        """Those of all processes, in the order in which one process has them."""
        if self.team.size == 1:
            return parts
        shares = self.team.everyones([[few.to("cpu") for few in part] for part in parts])
        return [[few.to(self.model.device) for few in part] for share in shares for part in share]

    def stopped(self, target: Target, seeds: list[int], generator: torch.Generator) -> Pairs:
        """Guided trajectories stopped at a random step, one per seed; only the last x_t becomes an example.

        With `timesteps="exact"` (esd_sd.py) j steps are made, j uniform, and x_t is paired with the
        schedule's j-th timestep. With "compvis" (train-esd.py, S sampling steps, here S = 50) the bin k is
        uniform and t random in it, but the sampler drops the first timestep of its schedule and stops one
        step late: x_t's real level is 20k - 39 while the UNet is told 20k to 20k + 19. ValueError if
        "compvis" has fewer than 2 sampling steps to make.
        """
        total, exact = self.config.num_inference_steps, self.config.timesteps == "exact"
        if not exact and total < 2:
            raise ValueError("timesteps 'compvis' needs at least 2 sampling steps")
        k = int(torch.randint(total, (), generator=generator))
        t = torch.zeros(len(seeds), dtype=torch.long)
        if not exact:
            t = torch.randint(1000 * k // total, 1000 * (k + 1) // total, (len(seeds),), generator=generator)
        span = dict(stop_at=k + 1) if exact else dict(start_at=1, stop_at=min(total - k + 1, total))
        mine, parts = self.team.mine(len(seeds)), list[list[Pairs]]()
        if mine:
            lines = [Line(target.drawn, seed=seeds[i]) for i in mine]
            *_, last = self.sample(lines, keep_pair=False, **span)
            t = last.t.long().expand(len(mine)) if exact else t[mine.start : mine.stop].to(last.x_t.device)
            parts = [[Labels(self.model, target, lines[:1])(last.x_t if exact else last.latents, t)]]
        return Pairs.cat([few for part in self._everyones(parts) for few in part])

    def images(self, target: Target, images: Tensor, count: int, generator: torch.Generator) -> Pairs:
        """So many examples from pictures `(M, 3, H, W)`, forward-noised to random levels (paper, 5.4)."""
        x_t, t, _ = noised(self.model, self.model.encode_images(images), count, generator)
        label = Labels(self.model, target, [Line(target.drawn)])
        few = (values.split(self.at_once) for values in (x_t, t))
        return Pairs.cat([label(*part) for part in zip(*few, strict=True)])


class Labels:
    """What the frozen model predicts at noisy latents, under the prompts of some trajectories: one latent
    each, or any number under the prompt of one."""

    def __init__(self, model: DiffusionModel, target: Target | None, lines: Sequence[Line]) -> None:
        self.unet, self.target = model.unet, target
        self.embeds = model.encode([line.prompt for line in lines])
        self.neutral = model.encode([line.neutral for line in lines])
        self.plain = not any(line.neutral for line in lines)
        self.concept = model.encode([target.concept]) if target and target.erase_from else None

    @torch.no_grad()
    def __call__(
        self, x_t: Tensor, t: Tensor, null: Tensor | None = None, drawn: Tensor | None = None
    ) -> Pairs:
        """Finished examples of x_t `(B, C, h, w)` at t `(B,)`; `null` and `drawn` are the frozen outputs for
        the empty prompt and for the trajectories' prompts, if sampling has computed them already."""
        if drawn is None:
            drawn = denoise.predict(self.unet, x_t, t, self.embeds)
        embeds = self.embeds.expand(len(x_t), -1, -1)
        if self.target is None:  # all the same, so that the target is the frozen output whatever eta is
            return Pairs(x_t, t, drawn, drawn, drawn, drawn, embeds)
        if null is None or not self.plain:
            null = denoise.predict(self.unet, x_t, t, self.neutral)
        if self.concept is None:
            return Pairs(x_t, t, null, drawn, null, drawn, embeds)
        return Pairs(x_t, t, null, denoise.predict(self.unet, x_t, t, self.concept), drawn, drawn, embeds)


def noised(
    model: DiffusionModel, x_0: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the clean latents `(N, C, h, w)`, with repeats, at random levels: x_t `(count, C, h, w)`, its
    training timesteps `(count,)`, and the noise in it."""
    picked = x_0[torch.randint(len(x_0), (count,), generator=generator).to(x_0.device)]
    t = torch.randint(len(model.alpha_bar), (count,), generator=generator).to(x_0.device)
    eps = torch.randn(picked.shape, generator=generator).to(x_0.device)
    return denoise.add_noise(picked, eps, model.alpha_bar[t]), t, eps
