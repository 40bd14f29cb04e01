"""What a denoiser's output means, and how two of them combine.

A diffusion UNet predicts either the noise `eps` or the velocity `v` of

    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps                       (DDPM, eq. 4)
    v_t = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0                       (v-prediction)

At a given x_t both are affine in each other, so classifier-free guidance and the erasing target,
whose weights sum to one, are the same formula for either. Everything here is a pure function of
tensors: outputs, x_t, x_0 and eps are `(B, C, h, w)`, alpha_bar (signal power at t) is `()` or `(B,)`.

Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv 2006.11239
Progressive Distillation (Salimans and Ho, 2022), arXiv 2202.00512 (v-prediction)
Classifier-Free Diffusion Guidance (Ho and Salimans, 2022), arXiv 2207.12598
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]


def predict(unet: UNet2DConditionModel, x_t: Tensor, t: Tensor, prompt_embeds: Tensor) -> Tensor:
    """The UNet's own output (eps or v), float32, for `x_t` at timestep `t` under a prompt.

    Frozen weights may be half precision while trained ones are float32: autocast mixes them.

    Args:
        t: training timesteps, `()` or `(B,)`.
        prompt_embeds: text states `(B, L, D)` or `(1, L, D)`.
    """
    prompt_embeds = prompt_embeds.expand(len(x_t), -1, -1)
    half = next((p.dtype for p in unet.parameters() if p.dtype in (torch.bfloat16, torch.float16)), None)
    # No cache: each weight is used once, and its half-precision copy need not outlive that.
    with torch.autocast(x_t.device.type, dtype=half, enabled=half is not None, cache_enabled=False):
        return unet(x_t, t, encoder_hidden_states=prompt_embeds).sample.float()


def predict_pair(
    unet: UNet2DConditionModel, x_t: Tensor, t: Tensor, null_embeds: Tensor, prompt_embeds: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs for the empty prompt and for a prompt, in one batch of 2B. Arguments as in `predict`."""
    shape = (len(x_t), *prompt_embeds.shape[1:])
    embeds = torch.cat([null_embeds.expand(shape), prompt_embeds.expand(shape)])
    t = t.expand(len(x_t)).repeat(2)
    null, cond = predict(unet, x_t.repeat(2, 1, 1, 1), t, embeds).chunk(2)
    return null, cond


def guide(null: Tensor, cond: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance: `null + guidance_scale * (cond - null)`.

    1 is the plain conditional prediction, 0 the unconditional one, below 0 is pushed away from the
    condition. (The paper's own w is `guidance_scale - 1`.)
    """
    return null + guidance_scale * (cond - null)


def as_column(alpha_bar: Tensor, like: Tensor) -> Tensor:
    """`alpha_bar`, float32, broadcastable against `(B, C, h, w)`."""
    alpha_bar = alpha_bar.to(device=like.device, dtype=torch.float32)
    return alpha_bar.reshape(-1, *[1] * (like.ndim - 1))


def to_eps(output: Tensor, x_t: Tensor, alpha_bar: Tensor, kind: PredictionType) -> Tensor:
    """The noise that a UNet output claims is in `x_t`."""
    if kind == "epsilon":
        return output
    a = as_column(alpha_bar, x_t)
    return a.sqrt() * output + (1 - a).sqrt() * x_t


def to_x_0(output: Tensor, x_t: Tensor, alpha_bar: Tensor, kind: PredictionType) -> Tensor:
    """The clean latents that a UNet output implies (Tweedie's posterior mean); infinite at alpha_bar 0
    if the output is eps."""
    a = as_column(alpha_bar, x_t)
    if kind == "v_prediction":
        return a.sqrt() * x_t - (1 - a).sqrt() * output
    return (x_t - (1 - a).sqrt() * output) / a.sqrt()


def to_score(output: Tensor, x_t: Tensor, alpha_bar: Tensor, kind: PredictionType) -> Tensor:
    """The gradient of log p_t at `x_t`: `-eps / sqrt(1 - alpha_bar)` (arXiv 2011.13456)."""
    return -to_eps(output, x_t, alpha_bar, kind) / (1 - as_column(alpha_bar, x_t)).sqrt()


def add_noise(x_0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """Forward noising, DDPM's eq. 4: `x_t` `(B, C, h, w)` from clean latents and noise of that shape."""
    a = as_column(alpha_bar, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps
