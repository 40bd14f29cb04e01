"""The denoising loop: a generator that yields every step with all that was computed on the way.

It is the reverse process of `StableDiffusionPipeline.__call__` (diffusers) for any of its
schedulers, but honours guidance below 1, can start late and stop early, and draws each picture's
noise from its own seed on the CPU, so that a picture depends on neither its batch nor the device.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

import diffusers
import torch
from diffusers import SchedulerMixin, UNet2DConditionModel
from torch import Tensor

from esd_core import denoise
from esd_core.config import STEPS
from esd_core.models import DiffusionModel

T = TypeVar("T")

# Names of samplers (`config.Scheduler`) -> classes of diffusers.
SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
}
# What Stable Diffusion's own folders choose where the classes' defaults are made for pixels.
LATENT_DIFFUSION = dict(clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1)


@dataclass(frozen=True, eq=False)
class Step:
    """One step of the loop. `x_t` is on the training scale, whatever the scheduler's own is."""

    step: int
    t: Tensor  # (), training timestep
    alpha_bar: Tensor  # (), signal power at t
    x_t: Tensor  # (B, C, h, w), what the UNet was given
    output_null: Tensor | None  # the UNet's output (eps or v); None if guidance did not need it
    output_cond: Tensor | None
    output_guided: Tensor
    latents: Tensor  # (B, C, h, w), after the step, on the scheduler's scale
    prediction_type: denoise.PredictionType

    def _eps(self, output: Tensor) -> Tensor:
        return denoise.to_eps(output, self.x_t, self.alpha_bar, self.prediction_type)

    @property
    def eps_null(self) -> Tensor | None:
        """Noise prediction for the empty (or negative) prompt."""
        return None if self.output_null is None else self._eps(self.output_null)

    @property
    def eps_cond(self) -> Tensor | None:
        """Noise prediction for the prompt."""
        return None if self.output_cond is None else self._eps(self.output_cond)

    @property
    def eps_guided(self) -> Tensor:
        """Their combination, which the step followed."""
        return self._eps(self.output_guided)

    @property
    def x_0(self) -> Tensor:
        """The clean latents that the guided prediction implies."""
        return denoise.to_x_0(self.output_guided, self.x_t, self.alpha_bar, self.prediction_type)


def make_scheduler(model: DiffusionModel, scheduler: str | SchedulerMixin) -> Any:  # noqa: ANN401
    """A fresh scheduler on the model's noise schedule; an instance is copied, never shared. ValueError if no
    scheduler of `SCHEDULERS` has this name, or it cannot follow this schedule."""
    if not isinstance(scheduler, str):
        return copy.deepcopy(scheduler)
    if scheduler not in SCHEDULERS:
        raise ValueError(f"unknown scheduler {scheduler!r}; choose one of: {', '.join(SCHEDULERS)}")
    config = model.scheduler.config
    if scheduler == "pndm" and config.get("rescale_betas_zero_snr"):
        raise ValueError("scheduler 'pndm' cannot follow this model's rescale_betas_zero_snr; use 'ddim'")
    kind = getattr(diffusers, SCHEDULERS[scheduler])
    unsaid = ("_use_default_values", *config.get("_use_default_values", ()))
    chosen = {k: v for k, v in config.items() if k not in unsaid}
    spacing, own = chosen.get("timestep_spacing"), isinstance(model.scheduler, kind)
    # linspace, which others save unasked, is for DPM++: DDIM and PNDM step past it, Euler's t are fractions.
    if scheduler != "dpm++" and (spacing is None or (spacing == "linspace" and not own)):
        chosen["timestep_spacing"] = "leading"
    return kind.from_config({**LATENT_DIFFUSION, **chosen})


def generators(seeds: Sequence[int], offset: int = 0) -> list[torch.Generator]:
    """A generator on the CPU for each picture. ValueError if a seed is below 0 or above 2**32 - 1."""
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise ValueError(f"seed {seed} is out of range; use 0 to 4294967295")
    return [torch.Generator().manual_seed(seed + offset) for seed in seeds]


def noise(model: DiffusionModel, seeds: Sequence[int], image_size: int | None = None) -> Tensor:
    """Standard normal latents `(len(seeds), C, h, w)`, each from its own seed, 0 to 2**32 - 1."""
    shape = model.latent_shape(image_size)
    return torch.stack([torch.randn(shape, generator=g) for g in generators(seeds)]).to(model.device)


def refuse(
    given: Mapping[str, Sized | None], seeds: Sequence[int], steps: int, guidance: float, **at: int | None
) -> None:
    """Raise ValueError unless all that is given is one per seed, and the numbers are in range."""
    for what, values in given.items():
        count = len(seeds) if values is None else len(values)
        if count != len(seeds) or not seeds:
            raise ValueError(f"{count} {what} for {len(seeds)} seeds; give one {what[:-1]} per seed")
    if not STEPS[0] <= steps <= STEPS[1]:
        raise ValueError(f"num_inference_steps is {steps}; use {STEPS[0]} to {STEPS[1]}")
    if not math.isfinite(guidance):
        raise ValueError(f"guidance_scale is {guidance}; use a finite number")
    if wrong := next((name for name, index in at.items() if (index or 0) < 0), None):
        raise ValueError(f"{wrong} is {at[wrong]}; use 0 or more")


def sample(
    model: DiffusionModel,
    prompts: str | Sequence[str],
    *,
    seeds: Sequence[int],
    unet: UNet2DConditionModel | None = None,
    negative_prompt: str = "",
    guidance_scale: float = 4.0,
    num_inference_steps: int = 20,
    scheduler: str | SchedulerMixin = "ddim",
    image_size: int | None = None,
    latents: Tensor | None = None,
    start_at: int = 0,
    stop_at: int | None = None,
    keep_pair: bool = True,
) -> Iterator[Step]:
    """Denoise, one yielded `Step` at a time.

    Args:
        model: the frozen parts.
        prompts: one prompt for all pictures, or one per seed.
        seeds: one per picture, 0 to 2**32 - 1.
        unet: sample with this one instead of the frozen one.
        negative_prompt: takes the place of the empty prompt in guidance.
        guidance_scale: see `denoise.guide`; any real number.
        num_inference_steps: steps of the full schedule, 1 to 999.
        scheduler: a name in `SCHEDULERS` or a diffusers scheduler.
        image_size: side in pixels; default the model's own.
        latents: start from these, `(len(seeds), C, h, w)` on the scheduler's scale, instead of fresh noise.
        start_at: skip that many first steps.
        stop_at: make no step from this index on.
        keep_pair: evaluate both branches even where `guidance_scale` (1 or 0) needs only one.

    Raises:
        ValueError: an argument is out of range.
    """
    prompts = [prompts] * len(seeds) if isinstance(prompts, str) else list(prompts)
    given, at = {"prompts": prompts, "latents": latents}, {"start_at": start_at, "stop_at": stop_at}
    refuse(given, seeds, num_inference_steps, guidance_scale, **at)
    unet = model.unet if unet is None else unet
    solver = make_scheduler(model, scheduler)
    solver.set_timesteps(num_inference_steps, device=model.device)
    embeds, null_embeds = model.encode(prompts), model.encode([negative_prompt])
    adds_noise = "generator" in inspect.signature(solver.step).parameters
    extra = {"generator": generators(seeds, 2**32)} if adds_noise else {}  # numbers that no seed begins with
    if latents is None:
        latents = noise(model, seeds, image_size) * solver.init_noise_sigma
    for step, t in enumerate(solver.timesteps[start_at:stop_at], start_at):
        with torch.no_grad():
            x_t, null, cond = solver.scale_model_input(latents, t), None, None
            if keep_pair or guidance_scale not in (0, 1):
                null, cond = denoise.predict_pair(unet, x_t, t, null_embeds, embeds)
                guided = denoise.guide(null, cond, guidance_scale)
            elif guidance_scale == 0:
                guided = null = denoise.predict(unet, x_t, t, null_embeds)
            else:
                guided = cond = denoise.predict(unet, x_t, t, embeds)
            latents = solver.step(guided, t, latents, **extra).prev_sample
        alpha_bar = model.alpha_bar[t.long()]
        yield Step(step, t, alpha_bar, x_t, null, cond, guided, latents, model.prediction_type)


def generate(
    model: DiffusionModel, prompts: str | Sequence[str], *, seeds: Sequence[int], **options: Any
) -> Tensor:
    """Sample to the end and decode: pictures `(len(seeds), 3, H, W)` in [0, 1].

    The options are those of `sample`, such as `unet` and `guidance_scale`, but `keep_pair`. ValueError as
    `sample` and `DiffusionModel.decode`, or if they leave no step to make.
    """
    return finish(generating(model, prompts, lambda step: step, seeds=seeds, **options))


def generating(
    model: DiffusionModel,
    prompts: str | Sequence[str],
    show: Callable[[Step], T],
    *,
    seeds: Sequence[int],
    **options: Any,
) -> Generator[T, None, Tensor]:
    """`generate` for an app, which lets others compute in between: yields `show(step)` after each step and
    returns the pictures."""
    latents = None
    for step in sample(model, prompts, seeds=seeds, keep_pair=False, **options):
        latents = step.latents
        yield show(step)
    if latents is None:
        raise ValueError("no step to make: start_at must be below num_inference_steps and stop_at")
    return model.decode(latents)


def finish(drawing: Generator[Any, None, T]) -> T:
    """What a drawing returns when nobody interrupts it."""
    while True:
        try:
            next(drawing)
        except StopIteration as end:
            return end.value
