"""Teacher pairs: the examples an erasing run learns from.

One example is a noisy latent x_t, its timestep, and what the frozen model predicts there: for the
empty prompt, for the concept and, if the concept is erased from a context, for that context. Guided
sampling of the concept with the frozen model computes the first two at every step it makes, so its
whole trajectory is a set of finished examples. They depend on neither eta, nor the train method,
nor the learning rate: keep them, and a second run is pure regression.

Collecting takes seconds to minutes. What draws whole sets yields between the teacher's calls, so
that an app can stop it or let others compute in between; `sample.finish` is for everybody else.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import denoise
from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel
from esd_core.run_prompts import Asked
from esd_core.sampling import Step, finish, sample

TEACHER_BATCH = 16  # examples or trajectories at once; bounds memory on large models
HELD_STEPS = 6  # at most, of a trajectory that holds another prompt


@dataclass(frozen=True)
class Pairs:
    """N examples. All outputs are the UNet's own kind (eps or v), `(N, C, h, w)`."""

    x_t: Tensor
    t: Tensor  # (N,)
    null: Tensor  # frozen, empty prompt, or the prompt without the concept: `run_prompts`
    concept: Tensor  # frozen, concept
    centre: Tensor  # frozen, context if there is one, else the same as null
    frozen: Tensor  # frozen, the prompt under which the edited model is trained
    embeds: Tensor  # (N, L, D), that prompt

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, index: Tensor | slice) -> Pairs:
        return Pairs(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> Pairs:
        """The same examples on another device; not copied if they are there."""
        return Pairs(*(getattr(self, f.name).to(device) for f in fields(self)))

    @staticmethod
    def cat(parts: Sequence[Pairs]) -> Pairs:
        """All examples of several sets."""
        return Pairs(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Pairs)))


def evaluate(model: DiffusionModel, x_t: Tensor, t: Tensor, embeds: Tensor) -> Generator[None, None, Tensor]:
    """The frozen model's output at every `x_t`, under one prompt `(1, L, D)` or one each."""
    each = (x_t, t, embeds.expand(len(x_t), -1, -1))
    outputs = []
    for chunk in zip(*(values.split(TEACHER_BATCH) for values in each), strict=True):
        with torch.no_grad():
            outputs.append(denoise.predict(model.unet, *chunk))
        yield
    return torch.cat(outputs)


def states(model: DiffusionModel, prompts: list[str], count: int) -> Tensor:
    """Text states of as many prompts, which take turns: `(count, L, D)`."""
    if len(set(prompts)) == 1:  # one copy in memory
        return model.encode(prompts[:1]).expand(count, -1, -1)
    return model.encode(prompts).repeat(count // len(prompts), 1, 1)


def complete(
    model: DiffusionModel,
    target: Target,
    x_t: Tensor,
    t: Tensor,
    null: Tensor | None = None,
    drawn: Tensor | None = None,
    asks: Sequence[Asked] = (),
) -> Generator[None, None, Pairs]:
    """Add what is missing to make examples of noisy latents.

    Args:
        null: the frozen output for the empty prompt, if sampling has computed it already.
        drawn: likewise for the prompt the latents were sampled with (the context, or else the
            concept).
        asks: the prompts, which take turns; default the target's own.
    """
    asks = asks or [Asked.of(target)]
    embeds = states(model, [a.prompt for a in asks], len(t))
    if null is None or any(a.neutral for a in asks):
        null = yield from evaluate(model, x_t, t, states(model, [a.neutral for a in asks], len(t)))
    if drawn is None:
        drawn = yield from evaluate(model, x_t, t, embeds)
    concept = drawn
    if target.erase_from:
        concept = yield from evaluate(model, x_t, t, model.encode([target.concept]))
    centre = drawn if target.erase_from else null
    return Pairs(x_t, t, null, concept, centre, drawn, embeds)


def walk(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    prompts: list[str],
    seeds: list[int],
    config: EraseConfig,
) -> Generator[None, None, list[Step]]:
    """The steps of a whole guided trajectory for each prompt and its seed, a few lines at once."""
    at_once = min(TEACHER_BATCH, config.micro_batch_size)
    walks: list[list[Step]] = []
    for first in range(0, len(prompts), at_once):
        few = slice(first, first + at_once)
        walks.append([])
        for step in sample(
            model,
            prompts[few],
            seeds=seeds[few],
            unet=unet,
            guidance_scale=config.start_guidance,
            num_inference_steps=config.num_inference_steps,
            scheduler=config.scheduler,
            image_size=config.image_size,
        ):
            walks[-1].append(step)
            yield
    return [step for together in zip(*walks, strict=True) for step in together]


def places(steps: Sequence[Step]) -> tuple[Tensor, Tensor]:
    """Every x_t on trajectories `(N, C, h, w)`, and its training timestep `(N,)`."""
    t = torch.cat([s.t.long().expand(len(s.x_t)) for s in steps])
    return torch.cat([s.x_t for s in steps]), t


def draw_all(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    target: Target,
    config: EraseConfig,
    seeds: list[int],
    asks: Sequence[Asked] = (),
) -> Generator[None, None, Pairs]:
    """Whole guided trajectories of `unet`, one per seed; every x_t on them becomes an example.

    Args:
        asks: a prompt for each seed; default the target's own for all.
    """
    asks = asks or [Asked.of(target)] * len(seeds)
    steps = yield from walk(model, unet, [a.prompt for a in asks], seeds, config)
    x_t, t = places(steps)
    if unet is not model.unet:  # the edited model's by-products are not the teacher's
        return (yield from complete(model, target, x_t, t, asks=asks))
    null = torch.cat([s.output_null for s in steps if s.output_null is not None])
    drawn = torch.cat([s.output_cond for s in steps if s.output_cond is not None])
    return (yield from complete(model, target, x_t, t, null, drawn, asks))


def draw_last(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    target: Target,
    config: EraseConfig,
    seeds: list[int],
    generator: torch.Generator,
    mine: list[int] | None = None,
) -> Pairs:
    """Guided trajectories stopped at a random step; only the last x_t becomes an example.

    With `timesteps="exact"` (esd_sd.py) j steps are made, j uniform, and x_t is paired with the
    schedule's j-th timestep. With "compvis" (train-esd.py, S sampling steps, here S = 50) the bin
    k is uniform and t random in it, but the sampler drops the first timestep of its schedule and
    stops one step late: x_t's real level is 20k - 39 while the UNet is told 20k to 20k + 19.

    Args:
        seeds: one per trajectory, of its first noise.
        mine: follow only these of the trajectories, the generator's state being that of following
            all; see `parallel.Team`.
    """
    prompt = target.erase_from or target.concept
    total = config.num_inference_steps
    k = int(torch.randint(total, (), generator=generator))
    low, high = 1000 * k // total, 1000 * (k + 1) // total
    told = None
    if config.timesteps == "compvis":
        told = torch.randint(low, high, (len(seeds),), generator=generator)
    if mine is not None:
        seeds = [seeds[i] for i in mine]
        told = None if told is None else told[mine]
    options = dict(
        seeds=seeds,
        unet=unet,
        guidance_scale=config.start_guidance,
        num_inference_steps=total,
        scheduler=config.scheduler,
        image_size=config.image_size,
        keep_pair=False,
    )
    if told is None:
        *_, last = sample(model, prompt, stop_at=k + 1, **options)  # type: ignore[arg-type]
        return finish(complete(model, target, last.x_t, last.t.long().expand(len(seeds))))
    x_t = None
    for step in sample(model, prompt, start_at=1, stop_at=min(total - k + 1, total), **options):  # type: ignore[arg-type]
        x_t = step.latents
    if x_t is None:
        raise ValueError("timesteps 'compvis' needs at least 2 sampling steps")
    return finish(complete(model, target, x_t, told.to(x_t.device)))


def draw_images(
    model: DiffusionModel, target: Target, images: Tensor, count: int, generator: torch.Generator
) -> Pairs:
    """Examples from given pictures `(M, 3, H, W)`, forward-noised to random levels (paper, 5.4)."""
    x_t, t, _ = noised(model, model.encode_images(images), count, generator)
    return finish(complete(model, target, x_t, t))


def noised(
    model: DiffusionModel, x_0: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the clean latents `(N, C, h, w)`, with repeats, at random levels.

    Returns:
        x_t `(count, C, h, w)`, its training timesteps t `(count,)`, and the noise in it.
    """
    picked = x_0[torch.randint(len(x_0), (count,), generator=generator).to(x_0.device)]
    t = torch.randint(len(model.alpha_bar), (count,), generator=generator).to(x_0.device)
    eps = torch.randn(picked.shape, generator=generator).to(x_0.device)
    return denoise.add_noise(picked, eps, model.alpha_bar[t]), t, eps


def draw_preservation(
    model: DiffusionModel, config: EraseConfig, prompts: list[str], seeds: list[int]
) -> Generator[None, None, Pairs]:
    """Examples whose target is the frozen prediction itself: short guided trajectories of others.

    What these prompts draw is decided on their own trajectories. Held only where the erased concept
    passes, as it is cheaper to do, their pictures change more (bench/README.md).

    Null, concept and centre coincide, so the erasing target is the frozen output whatever eta is.

    Args:
        prompts: of the trajectories, a seed each.
    """
    total = min(HELD_STEPS, config.num_inference_steps)
    shorter = replace(config, num_inference_steps=total)
    steps = yield from walk(model, model.unet, prompts, seeds, shorter)
    output = torch.cat([s.output_cond for s in steps if s.output_cond is not None])
    embeds = model.encode(prompts).repeat(len(output) // len(prompts), 1, 1)
    return Pairs(*places(steps), output, output, output, output, embeds)
