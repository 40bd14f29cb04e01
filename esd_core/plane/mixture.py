"""Gaussians in the plane: a diffusion "model" whose every prediction is known exactly.

Noising a mixture p_0(x) = sum_k w_k N(x; m_k, s_k^2 I) with Stable Diffusion's schedule,

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps                          (DDPM, eq. 4)
    p_t(x) = sum_k w_k N(x; sqrt(alpha_bar_t) m_k, (alpha_bar_t s_k^2 + 1 - alpha_bar_t) I)

gives a mixture again, so density, score and the ideal noise prediction have closed forms:

    score(x_t) = grad log p_t(x_t),    eps(x_t) = -sqrt(1 - alpha_bar_t) score(x_t)
    score(x_t) = sum_k p_t(k given x_t) score(x_t given k)              (the posterior identity)

Class k plays the prompt, no class the empty prompt. Points are `(N, 2)`, float64 unless the
mixture says otherwise; `alpha_bar` is `()` or `(N,)`. What a network learns of them is `network`.
Two dimensions mislead about many: the more there are, the less guidance overshoots (arXiv
2502.07849).

Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv 2006.11239
Score-Based Generative Modeling through SDEs (Song et al., 2021), arXiv 2011.13456
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from esd_core.denoise import guide

# Stable Diffusion's "scaled_linear" betas: what DDIMScheduler computes, in float64. `(1000,)`
ALPHA_BAR = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(dim=0)

PredictEps = Callable[[Tensor, Tensor], Tensor]  # x_t (N, 2), t () -> eps (N, 2)


@dataclass(frozen=True, eq=False)
class Mixture:
    """One isotropic Gaussian per class.

    Raises:
        ValueError: shapes do not match, or a standard deviation or weight is not positive.
    """

    means: Tensor  # (K, 2)
    stds: Tensor  # (K,)
    weights: Tensor  # (K,), sum 1

    def __post_init__(self) -> None:
        k = len(self.means)
        if self.means.shape != (k, 2) or self.stds.shape != (k,) or self.weights.shape != (k,):
            raise ValueError("give K means of shape (K, 2), K stds and K weights")
        if not (self.stds > 0).all() or not (self.weights > 0).all():
            raise ValueError("every standard deviation and every weight must be above 0")

    def draw(
        self, count: int, *, concept: int | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Clean points `(count, 2)` of one class, or of all by weight, and their classes."""
        weights = self.weights if concept is None else torch.eye(len(self.weights))[concept]
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        eps = torch.randn((count, 2), generator=generator, dtype=self.means.dtype)
        return self.means[k] + self.stds[k, None] * eps, k

    def _parts(self, x_t: Tensor, alpha_bar: Tensor) -> tuple[Tensor, Tensor]:
        """Of every class at every point: log p_t(x_t given k) and its gradient."""
        a = alpha_bar.to(x_t.dtype).reshape(-1, 1)
        variance = a * self.stds**2 + 1 - a  # (N or 1, K)
        away = x_t[:, None] - a.sqrt()[..., None] * self.means  # (N, K, 2)
        log_p = -away.square().sum(-1) / (2 * variance) - torch.log(2 * math.pi * variance)
        return log_p, -away / variance[..., None]

    def log_density(self, x_t: Tensor, alpha_bar: Tensor, concept: int | None = None) -> Tensor:
        """log p_t(x_t), `(N,)`; of one class alone if `concept` is given."""
        log_p, _ = self._parts(x_t, alpha_bar)
        if concept is not None:
            return log_p[:, concept]
        return torch.logsumexp(log_p + self.weights.log(), dim=1)

    def posterior(self, x_t: Tensor, alpha_bar: Tensor) -> Tensor:
        """p_t(k given x_t), which class a noisy point came from, `(N, K)`; rows sum to 1."""
        return torch.softmax(self._parts(x_t, alpha_bar)[0] + self.weights.log(), dim=1)

    def score(self, x_t: Tensor, alpha_bar: Tensor, concept: int | None = None) -> Tensor:
        """The gradient of `log_density` in x_t, `(N, 2)`."""
        log_p, scores = self._parts(x_t, alpha_bar)
        if concept is not None:
            return scores[:, concept]
        return (torch.softmax(log_p + self.weights.log(), dim=1)[..., None] * scores).sum(1)

    def eps(self, x_t: Tensor, alpha_bar: Tensor, concept: int | None = None) -> Tensor:
        """The noise an ideal network predicts, `(N, 2)`: the mean of eps given x_t."""
        a = alpha_bar.to(x_t.dtype).reshape(-1, 1)
        return -(1 - a).sqrt() * self.score(x_t, alpha_bar, concept)

    def guided(self, concept: int, guidance_scale: float) -> PredictEps:
        """Guidance towards a class: 0 unconditional, 1 conditional, -eta the erasing target."""
        return lambda x_t, t: guide(
            self.eps(x_t, ALPHA_BAR[t]), self.eps(x_t, ALPHA_BAR[t], concept), guidance_scale
        )

    def nearest(self, x: Tensor) -> Tensor:
        """The class whose mean is nearest, `(N,)`."""
        return torch.cdist(x, self.means.to(x.dtype)).argmin(1)


def ring(classes: int = 3, *, radius: float = 2.0, std: float | Sequence[float] = 0.4) -> Mixture:
    """Equally likely classes evenly on a circle, class 0 at the top; `std` may differ by class."""
    angles = math.pi / 2 + 2 * math.pi * torch.arange(classes, dtype=torch.float64) / classes
    stds = torch.tensor([std] * classes if isinstance(std, int | float) else list(std))
    weights = torch.full((classes,), 1 / classes, dtype=torch.float64)
    return Mixture(radius * torch.stack([angles.cos(), angles.sin()], dim=1), stds.to(angles), weights)


def add_noise(x_0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """Forward noising of points `(N, 2)`; `denoise.add_noise` in the points' own precision."""
    a = alpha_bar.to(x_0.dtype).reshape(-1, 1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


@dataclass(frozen=True, eq=False)
class Point:
    """One step of the sampling loop."""

    t: Tensor  # (), training timestep
    x_t: Tensor  # (N, 2), before the step
    eps: Tensor  # (N, 2), the prediction it follows
    after: Tensor  # (N, 2)


def noise(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal starting points `(count, 2)`."""
    return torch.randn((count, 2), generator=generator, dtype=torch.float64)


@torch.no_grad()
def sample(predict_eps: PredictEps, x_t: Tensor, *, num_inference_steps: int = 50) -> Iterator[Point]:
    """Denoise points from t = 999 by DDIM, which is Euler's method on the probability-flow ODE.

    Args:
        predict_eps: any noise prediction: `Mixture.guided`, a network.
        x_t: starting points, `noise(count)`.
        num_inference_steps: evaluations, at timesteps spread evenly over 999 to 0.
    """
    timesteps = torch.linspace(999, 0, num_inference_steps).round().long()
    levels = [*ALPHA_BAR[timesteps], torch.tensor(1.0, dtype=torch.float64)]
    for t, a, after in zip(timesteps, levels, levels[1:], strict=False):
        eps = predict_eps(x_t, t)
        x_0 = (x_t - (1 - a).sqrt() * eps) / a.sqrt()
        moved = after.sqrt() * x_0 + (1 - after).sqrt() * eps  # DDIM (arXiv 2010.02502), eq. 12
        yield Point(t, x_t, eps, moved)
        x_t = moved


def generate(predict_eps: PredictEps, x_t: Tensor, *, num_inference_steps: int = 50) -> Tensor:
    """Where `sample` ends, `(N, 2)`."""
    *_, last = sample(predict_eps, x_t, num_inference_steps=num_inference_steps)
    return last.after
