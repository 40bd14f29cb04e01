"""Concept inversion: learn a new word that makes an edited model draw what was erased.

No weight of the UNet changes. One word embedding e is added to the text encoder and fitted to
pictures x_0 of the concept, as in textual inversion, but through the *edited* UNet:

    min_e  mean |eps - eps_edited(x_t, prompt with the new word, t)|^2,
    x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps

If the word then draws the concept, the edited model could draw it all along.

Circumventing Concept Erasure Methods for Text-to-Image Generative Models (Pham et al., ICLR 2024),
arXiv 2308.01508
An Image is Worth One Word (Gal et al., 2022), arXiv 2208.01618 (textual inversion)
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call

from esd_core import denoise
from esd_core.models import DiffusionModel
from esd_core.objective import erasing_loss

WORD = "<learned>"


@dataclass(frozen=True)
class InversionStep:
    """A word after some updates. The first step, iteration 0, precedes any."""

    iteration: int
    loss: float | None  # before the update
    embedding: Tensor  # (D,), float32 on the CPU

    def apply(self, model: DiffusionModel) -> DiffusionModel:
        """The model with the word `<learned>` in its vocabulary of tokens, to use in any prompt.

        Raises:
            ValueError: the embedding has another width than the model's words.
        """
        return _with_word(model, self.embedding)


def _with_word(model: DiffusionModel, embedding: Tensor) -> DiffusionModel:
    """A model with one more token; everything but the table of embeddings is shared."""
    table = model.text_encoder.get_input_embeddings().weight
    if embedding.shape != table.shape[1:]:
        raise ValueError(
            f"the embedding has shape {tuple(embedding.shape)}; words of {model.name!r} have "
            f"{tuple(table.shape[1:])}: invert on this model"
        )
    tokenizer = copy.deepcopy(model.tokenizer)
    if not tokenizer.add_tokens(WORD):
        raise ValueError(f"{model.name!r} has a word {WORD} already; use the model without it")
    shared = [*model.text_encoder.parameters(), *model.text_encoder.buffers()]
    encoder = copy.deepcopy(model.text_encoder, memo={id(tensor): tensor for tensor in shared})
    grown = torch.cat([table, embedding.to(table)[None]])
    encoder.set_input_embeddings(nn.Embedding.from_pretrained(grown))
    return replace(model, tokenizer=tokenizer, text_encoder=encoder)


def invert(
    model: DiffusionModel,
    images: Tensor,
    *,
    unet: UNet2DConditionModel | None = None,
    prompt: str = f"a {WORD}",
    start_from: str = "",
    iterations: int = 100,
    learning_rate: float = 0.05,
    batch_size: int = 8,
    seed: int = 0,
) -> Iterator[InversionStep]:
    """Fit the word, one yielded `InversionStep` per update of Adam.

    Args:
        model: the frozen parts.
        images: pictures of the concept `(M, 3, H, W)` in [0, 1].
        unet: the edited UNet to draw it with; None is the frozen one (plain textual inversion).
        prompt: how the word is used while it is learned; contains `<learned>`.
        start_from: begin at the mean embedding of this text's tokens; "" begins at the mean of all.
        iterations: updates.
        batch_size: noised pictures per update.
        seed: of pictures, timesteps and noise.

    Raises:
        ValueError: the prompt lacks the word, pictures are missing, or a number is out of range.
    """
    if WORD not in prompt:
        raise ValueError(f"the prompt {prompt!r} does not contain {WORD}; put it where a noun goes")
    if images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise ValueError(f"images have shape {tuple(images.shape)}; give (M, 3, H, W) in [0, 1]")
    if iterations < 0 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"iterations {iterations}, batch_size {batch_size}, learning_rate {learning_rate:g}: "
            "use 0 or more, 1 or more, and above 0"
        )
    unet = model.unet if unet is None else unet
    table = model.text_encoder.get_input_embeddings().weight.detach().float()
    ids = model.tokenizer(start_from, add_special_tokens=False).input_ids if start_from else ...
    learned = nn.Parameter(table[ids].mean(0))
    grown = _with_word(model, learned.detach())
    tokens = grown.tokenizer(
        prompt, padding="max_length", max_length=grown.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids.to(table.device)  # fmt: skip
    optimizer = torch.optim.Adam([learned], lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    x_0 = model.encode_images(images)
    yield InversionStep(0, None, learned.detach().cpu().clone())
    for iteration in range(1, iterations + 1):
        x_t, t, eps = _noised(model, x_0, batch_size, generator)
        states = _read(grown, tokens, torch.cat([table, learned[None]]))
        output = denoise.predict(unet, x_t, t, states)
        alpha_bar = model.alpha_bar[t]
        loss = erasing_loss(denoise.to_eps(output, x_t, alpha_bar, model.prediction_type), eps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield InversionStep(iteration, loss.item(), learned.detach().cpu().clone())


def _read(model: DiffusionModel, tokens: Tensor, table: Tensor) -> Tensor:
    """Text states under another table of word embeddings, with a gradient to it."""
    encoder = model.text_encoder
    owner = encoder.get_input_embeddings()
    name = next(n for n, module in encoder.named_modules() if module is owner) + ".weight"
    return functional_call(encoder, {name: table.to(encoder.dtype)}, (tokens,))[0].float()


def _noised(
    model: DiffusionModel, x_0: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Some of the pictures at random levels: x_t, t and the noise in it."""
    picked = x_0[torch.randint(len(x_0), (count,), generator=generator).to(x_0.device)]
    t = torch.randint(len(model.alpha_bar), (count,), generator=generator).to(x_0.device)
    eps = torch.randn(picked.shape, generator=generator).to(x_0.device)
    return denoise.add_noise(picked, eps, model.alpha_bar[t]), t, eps
