"""Everything that is predicted at one noisy latent x_t: what erasing starts from and aims at.

The points are those of training (`teacher`): the frozen model's own guided trajectory. Predictions
are of the noise in x_t; `x_0` says what would be left of x_t without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import denoise, objective
from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel
from esd_core.prompts import Line
from esd_core.sampling import make_scheduler
from esd_core.teacher import Pairs, Teacher

STEPS = 20  # of a trajectory
KEPT = 16  # trajectories in memory: about 0.5 MB each for the embedded model, 4 MB for SD 1.4


@lru_cache(maxsize=KEPT)
def trajectory(model: DiffusionModel, target: Target, seed: int) -> Pairs:
    """The frozen model's guided trajectory from one noise, with what it predicts on the way.

    It samples the concept (or what that is erased from) with `EraseConfig`'s own start guidance, and depends
    on nothing else: the latest KEPT are remembered. ValueError if prompt or seed cannot be.
    """
    config = EraseConfig((target,), seed=seed, num_inference_steps=STEPS)
    line = Line(target.drawn, seed=seed)
    return Pairs.cat(list(Teacher(model, config).trajectories(target, [line])))


def timesteps(model: DiffusionModel) -> list[int]:
    """Where the points of a trajectory lie, noisiest first."""
    solver = make_scheduler(model, EraseConfig.scheduler)
    solver.set_timesteps(STEPS)
    return [int(t) for t in solver.timesteps]


def nearest(drawn: Pairs, t: float) -> int:
    """The index of the point whose timestep is nearest to `t`; ValueError beyond the trajectory's ends."""
    first, last = int(drawn.t.max()), int(drawn.t.min())
    if not last <= t <= first:
        raise ValueError(f"t is {t!r}; use a timestep from {last} to {first}")
    return int((drawn.t - t).abs().argmin())


@dataclass(frozen=True, eq=False)
class Predictions:
    """Noise predictions at one x_t, each `(1, C, h, w)` whatever the model's own kind of output."""

    x_t: Tensor
    t: int
    alpha_bar: float  # x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps
    eps_null: Tensor  # frozen, empty prompt
    eps_concept: Tensor  # frozen, concept
    eps_centre: Tensor  # frozen: eps_null, or the prediction for what the concept is erased from
    target: Tensor  # eps_centre - eta * (eps_concept - eps_null); algebra of the three above
    eps_edited: Tensor  # edited model, the prompt it is trained under
    eps_edited_null: Tensor  # edited model, empty prompt

    @property
    def difference(self) -> Tensor:
        """What the concept adds to the frozen model's prediction: the direction of erasing."""
        return self.eps_concept - self.eps_null

    def guided(self, guidance_scale: float) -> tuple[Tensor, Tensor]:
        """What sampling would follow here, by the frozen model and by the edited one; ValueError if the
        scale is not a finite number."""
        if not math.isfinite(guidance_scale):
            raise ValueError(f"guidance_scale is {guidance_scale!r}; use a finite number")
        frozen = denoise.guide(self.eps_null, self.eps_concept, guidance_scale)
        return frozen, denoise.guide(self.eps_edited_null, self.eps_edited, guidance_scale)

    def x_0(self, eps: Tensor) -> Tensor:
        """The clean latent `(1, C, h, w)` that is left if the noise in x_t is `eps`."""
        return denoise.to_x_0(eps, self.x_t, torch.tensor(self.alpha_bar), "epsilon")

    def towards_concept(self, eps: Tensor) -> Tensor:
        """How far `eps` is from `eps_centre` in the difference's direction, per latent cell `(h, w)`; in
        units of eps, positive towards the concept."""
        direction = F.normalize(self.difference[0], dim=0)
        return ((eps - self.eps_centre)[0] * direction).sum(0)

    def position(self, eps: Tensor) -> float:
        """Where `eps` lies along the difference: 0 at `eps_centre`, -eta at the target."""
        squared = self.difference.square().sum().clamp_min(1e-12)
        return float(((eps - self.eps_centre) * self.difference).sum() / squared)

    def cosine(self, eps: Tensor) -> float | None:
        """Cosine between the difference and the step from `eps_centre` to `eps`; None at 0."""
        step = eps - self.eps_centre
        lengths = step.norm() * self.difference.norm()
        return float(((step * self.difference).sum() / lengths).clamp(-1, 1)) if lengths > 1e-9 else None

    def measures(self) -> dict[str, dict[str, Any]]:
        """For each prediction its size, and how it lies to the concept and to the target; sizes and distances
        are root mean squares: unit noise has 1."""
        rows: dict[str, dict[str, Any]] = {"difference": {"size": rms(self.difference)}}
        for name in ("eps_null", "eps_concept", "target", "eps_edited"):
            eps = getattr(self, name)
            rows[name] = {"size": rms(eps), "position": self.position(eps)}
            rows[name] |= {"cosine": self.cosine(eps), "to_target": rms(eps - self.target)}
        return rows


def rms(x: Tensor) -> float:
    """Root mean square: the norm divided by the square root of the number of entries."""
    return float(x.square().mean().sqrt())


@torch.no_grad()
def predictions(
    model: DiffusionModel,
    drawn: Pairs,
    index: int,
    *,
    eta: float = 1.0,
    unet: UNet2DConditionModel | None = None,
) -> Predictions:
    """All predictions at one point of a trajectory.

    Args:
        drawn: of `trajectory`.
        index: which of its points.
        eta: erasing strength of the target, in the paper's units; a finite number, else ValueError.
        unet: the edited one; None stands for one that has not been trained yet.
    """
    if not math.isfinite(eta):
        raise ValueError(f"eta is {eta!r}; use a finite number")
    at = drawn[index : index + 1]
    alpha_bar = model.alpha_bar[at.t]
    edited, edited_null = at.frozen, at.null
    if unet is not None:
        null_embeds = model.encode([""])
        edited_null, edited = denoise.predict_pair(unet, at.x_t, at.t, null_embeds, at.embeds)
    target = objective.erasing_target(at.null, at.concept, eta, at.centre)
    outputs = (at.null, at.concept, at.centre, target, edited, edited_null)
    eps = (denoise.to_eps(out, at.x_t, alpha_bar, model.prediction_type) for out in outputs)
    return Predictions(at.x_t, int(at.t), float(alpha_bar), *eps)
