"""Where each word looks: the cross-attention maps of a UNet at one noisy latent.

diffusers' fused attention never forms the softmax, so a processor that writes it out takes its
place while a map is recorded. The idea of reading words' places from it: What the DAAM (Tang et
al., 2022), arXiv 2210.04885; Prompt-to-Prompt (Hertz et al., 2022), arXiv 2208.01626.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

from esd_core import denoise
from esd_core.erasure import shared_copy
from esd_core.models import DiffusionModel

START, END, PADDING = "[start]", "[end]", "[padding]"
ALL_LAYERS = "mean of all layers"
_PROCESSOR = ".attn2.processor"


class _Recorder:
    """Cross-attention as in diffusers' plain `AttnProcessor`, keeping what the softmax says."""

    def __init__(self, layer: str, calls: dict[str, list[Tensor]]) -> None:
        self.layer, self.calls = layer, calls

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        query = attn.head_to_batch_dim(attn.to_q(hidden_states))
        key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
        value = attn.head_to_batch_dim(attn.to_v(encoder_hidden_states))
        weights = attn.get_attention_scores(query, key, attention_mask)
        by_head = weights.detach().float().unflatten(0, (len(hidden_states), -1))
        self.calls.setdefault(self.layer, []).append(by_head)
        out = attn.batch_to_head_dim(torch.bmm(weights, value))
        return attn.to_out[1](attn.to_out[0](out))


@contextmanager
def recording(unet: UNet2DConditionModel) -> Iterator[dict[str, list[Tensor]]]:
    """Record every cross-attention of `unet`; its own processors return whatever happens.

    Others must not use this very module meanwhile: give a `shared_copy` of one that is shared.

    Yields:
        an empty dict that the UNet's calls fill, in the order in which it runs its layers:
        layer name -> for each call `(B, heads, cells, tokens)`.
    """
    former, calls = unet.attn_processors, dict[str, list[Tensor]]()
    recorders = {n: _Recorder(n.removesuffix(_PROCESSOR), calls) for n in former if n.endswith(_PROCESSOR)}
    try:
        unet.set_attn_processor({**former, **recorders})
        yield calls
    finally:
        unet.set_attn_processor(dict(former))


@dataclass(frozen=True)
class Looks:
    """Where the tokens of one prompt look, in every layer; heads are averaged."""

    tokens: tuple[str, ...]
    maps: dict[str, Tensor]  # layer -> (tokens, h, w); sums to 1 over the tokens in every cell
    output: Tensor  # the UNet's own output, (1, C, h, w)

    def of(self, layer: str = ALL_LAYERS) -> Tensor:
        """The maps `(tokens, h, w)` of a layer by its label, or the average over all of them at
        the finest one's size.

        Raises:
            ValueError: there is no such layer.
        """
        labelled = {layer_label(name): maps for name, maps in self.maps.items()}
        if layer in labelled:
            return labelled[layer]
        if layer != ALL_LAYERS:
            known = ", ".join((ALL_LAYERS, *labelled))
            raise ValueError(f"layer is {layer!r}; use one of: {known}")
        size = max(tuple(m.shape[1:]) for m in self.maps.values())
        scaled = [F.interpolate(m[None], size, mode="bilinear")[0] for m in self.maps.values()]
        return torch.stack(scaled).mean(0)


def tokens(model: DiffusionModel, prompt: str) -> tuple[str, ...]:
    """The text encoder's tokens: START, the prompt's (pieces of) words, END, and, as one, PADDING,
    which fills the prompt up to the encoder's length."""
    read = model.tokenize([prompt])
    ids, length = read["input_ids"][0], sum(read["attention_mask"][0])
    names = model.tokenizer.convert_ids_to_tokens(ids[1 : length - 1])
    words = [name.removesuffix("</w>") for name in names]
    padded = length < len(ids)
    return (START, *words, END, *[PADDING] * padded)


@torch.no_grad()
def look(
    model: DiffusionModel, prompt: str, x_t: Tensor, t: Tensor, unet: UNet2DConditionModel | None = None
) -> Looks:
    """Run a UNet once and see where each token of the prompt was looked for.

    Args:
        prompt: what the UNet is conditioned on.
        x_t: noisy latent `(1, C, h, w)`.
        t: its timestep, `(1,)`.
        unet: default the frozen one. It is left alone: a copy that shares its weights records.

    Raises:
        ValueError: the prompt is too long.
    """
    copy = shared_copy(model.unet if unet is None else unet, [])
    embeds, names = model.encode([prompt]), tokens(model, prompt)
    with recording(copy) as recorded:
        output = denoise.predict(copy, x_t, t, embeds)
    maps = {}
    for layer, calls in recorded.items():
        weights = calls[0][0].mean(0).T  # (tokens, cells)
        own = weights[: len(names)].clone()
        own[-1] += weights[len(names) :].sum(0)  # all padding is one
        factor = round((x_t[0, 0].numel() / own.shape[1]) ** 0.5)
        maps[layer] = own.unflatten(1, (x_t.shape[2] // factor, -1))
    return Looks(names, maps, output)


def layer_label(layer: str) -> str:
    """ "up_blocks.1.attentions.0.transformer_blocks.0" -> "up 1.0"."""
    numbers = re.findall(r"(?:up_blocks|down_blocks|attentions)\.(\d+)", layer)
    return f"{layer.partition('_')[0]} {'.'.join(numbers)}"


def layer_labels(unet: UNet2DConditionModel) -> list[str]:
    """Labels of all cross-attention layers, in the order in which the UNet runs them."""
    labels = [layer_label(n) for n in unet.attn_processors if n.endswith(_PROCESSOR)]
    return sorted(labels, key=lambda label: ("down", "mid", "up").index(label.partition(" ")[0]))
