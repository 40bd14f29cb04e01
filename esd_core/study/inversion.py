"""Concept inversion: learn text states that make an edited model draw what was erased.

No weight changes. A whole prompt's text states c are fitted to pictures x_0 of the concept, as in
textual inversion, but through the *edited* UNet:

    min_c  mean |eps - eps_edited(x_t, c, t)|^2,
    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

If these states then draw the concept, the edited model could draw it all along. The papers learn
the embedding of one word, which the text encoder reads; states (`prompt_embeds` in diffusers) are
more numbers and go around the encoder, as whoever runs the model can.

Circumventing Concept Erasure Methods for Text-to-Image Generative Models (Pham et al., ICLR 2024),
arXiv 2308.01508
An Image is Worth One Word (Gal et al., 2022), arXiv 2208.01618 (textual inversion)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from esd_core import denoise
from esd_core.models import DiffusionModel
from esd_core.objective import erasing_loss
from esd_core.teacher import noised

PROMPT = "<learned>"  # stands for the learned states


@dataclass(frozen=True)
class _Prompted(DiffusionModel):
    """A model for which one prompt has states of its own."""

    states: Tensor | None = None

    def encode(self, prompts: list[str]) -> Tensor:
        """As any model's, but for the prompt `<learned>`."""
        encoded = super().encode(["" if p == PROMPT else p for p in prompts])
        ours = torch.tensor([p == PROMPT for p in prompts], device=encoded.device)
        assert self.states is not None
        return torch.where(ours[:, None, None], self.states.to(encoded), encoded)


@dataclass(frozen=True, eq=False)
class InversionStep:
    """Text states after some updates. The first step, iteration 0, precedes any."""

    iteration: int
    loss: float | None  # before the update
    states: Tensor  # (L, D), float32 on the CPU

    def apply(self, model: DiffusionModel) -> DiffusionModel:
        """The model with `<learned>` as a prompt, all else the same; ValueError if the states have another
        shape than its prompts."""
        own, shape = tuple(self.states.shape), tuple(model.encode([""]).shape[1:])
        if own != shape:
            raise ValueError(
                f"the states have shape {own}; prompts of {model.name!r} have {shape}: invert on this model"
            )
        parts = {f.name: getattr(model, f.name) for f in fields(DiffusionModel)}
        return _Prompted(**parts, states=self.states)


def invert(
    model: DiffusionModel,
    images: Tensor,
    *,
    unet: UNet2DConditionModel | None = None,
    start_from: str = "",
    iterations: int = 40,
    learning_rate: float = 0.05,
    batch_size: int = 4,
    seed: int = 0,
) -> Iterator[InversionStep]:
    """Fit the states, one yielded `InversionStep` per update of Adam.

    Args:
        model: the frozen parts.
        images: pictures of the concept `(M, 3, H, W)` in [0, 1].
        unet: the edited UNet to draw them with; None is the frozen one.
        start_from: the prompt whose states to begin with.
        iterations, learning_rate, batch_size: 0 or more updates of Adam, its rate above 0, and 1 or more
            noised pictures for each; ValueError if out of range.
        seed: of pictures, timesteps and noise.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; give (M, 3, H, W) in [0, 1]")
    if iterations < 0 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"iterations {iterations}, batch_size {batch_size}, learning_rate {learning_rate:g}: "
            "use 0 or more, 1 or more, and above 0"
        )
    unet = model.unet if unet is None else unet
    states = nn.Parameter(model.encode([start_from]))
    optimizer = torch.optim.Adam([states], lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    x_0 = model.encode_images(images)
    yield InversionStep(0, None, states.detach()[0].cpu().clone())
    for iteration in range(1, iterations + 1):
        x_t, t, eps = noised(model, x_0, batch_size, generator)
        output = denoise.predict(unet, x_t, t, states)
        guess = denoise.to_eps(output, x_t, model.alpha_bar[t], model.prediction_type)
        loss = erasing_loss(guess, eps)
        (states.grad,) = torch.autograd.grad(loss, [states])  # and of nothing else
        optimizer.step()
        yield InversionStep(iteration, loss.item(), states.detach()[0].cpu().clone())
