"""Where each word looks: the cross-attention maps of a UNet at one noisy latent.

diffusers' fused attention never forms the softmax, so a hook computes it from the layer's inputs while
a map is recorded. The idea of reading words' places from it: What the DAAM (Tang et al., 2022), arXiv
2210.04885; Prompt-to-Prompt (Hertz et al., 2022), arXiv 2208.01626.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

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
CROSS = ".attn2"  # ends the name of a cross-attention


@contextmanager
def recording(unet: UNet2DConditionModel) -> Iterator[dict[str, list[Tensor]]]:
    """Record every cross-attention of `unet` until the block ends; others must not use this very module
    meanwhile: give a `shared_copy` of one that is shared.

    Yields:
        what the UNet's calls fill, in its layers' order: layer name -> `(B, heads, cells, tokens)` of each.
    """
    calls: dict[str, list[Tensor]] = {}

    def record(layer: str, attn: Attention, inputs: tuple[Tensor], more: dict[str, Any]) -> None:
        projected = attn.to_q(inputs[0]), attn.to_k(more["encoder_hidden_states"])
        query, key = map(attn.head_to_batch_dim, projected)
        weights = attn.get_attention_scores(query, key, more.get("attention_mask")).detach().float()
        calls.setdefault(layer, []).append(weights.unflatten(0, (len(inputs[0]), -1)))

    hooks = [
        module.register_forward_pre_hook(partial(record, name.removesuffix(CROSS)), with_kwargs=True)
        for name, module in unet.named_modules()
        if name.endswith(CROSS)
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Where the tokens of one prompt look, in every layer; heads are averaged."""

    tokens: tuple[str, ...]
    maps: dict[str, Tensor]  # layer_label -> (tokens, h, w); sums to 1 over the tokens in every cell
    output: Tensor  # the UNet's own output, (1, C, h, w)

    def of(self, layer: str = ALL_LAYERS) -> Tensor:
        """The maps `(tokens, h, w)` of a layer by its label, or their average at the finest one's size;
        ValueError if there is no such layer."""
        if layer in self.maps:
            return self.maps[layer]
        if layer != ALL_LAYERS:
            raise ValueError(f"layer is {layer!r}; use one of: {', '.join((ALL_LAYERS, *self.maps))}")
        size = max(m.shape[1:] for m in self.maps.values())
        return torch.cat([F.interpolate(m[None], size, mode="bilinear") for m in self.maps.values()]).mean(0)


def tokens(model: DiffusionModel, prompt: str) -> tuple[str, ...]:
    """The text encoder's tokens: START, the prompt's (pieces of) words, END, and all PADDING as one."""
    read = model.tokenize([prompt])
    ids, length = read["input_ids"][0], sum(read["attention_mask"][0])
    names = model.tokenizer.convert_ids_to_tokens(ids[1 : length - 1])
    padding = [PADDING] if length < len(ids) else []
    return (START, *(name.removesuffix("</w>") for name in names), END, *padding)


@torch.no_grad()
def attention_maps(
    model: DiffusionModel, prompt: str, x_t: Tensor, t: Tensor, unet: UNet2DConditionModel | None = None
) -> AttentionMaps:
    """Run a UNet once and see where each token of the prompt was looked for.

    Args:
        prompt: what the UNet is conditioned on; ValueError if it is too long.
        x_t: noisy latent `(1, C, h, w)`.
        t: its timestep, `(1,)`.
        unet: default the frozen one. It is left alone: a copy that shares its weights records.
    """
    copy = shared_copy(model.unet if unet is None else unet, [])
    names = tokens(model, prompt)
    with recording(copy) as recorded:
        output = denoise.predict(copy, x_t, t, model.encode([prompt]))
    maps = {}
    for layer, calls in recorded.items():
        weights = calls[0][0].mean(0).T  # (tokens, cells)
        own = weights[: len(names)].clone()
        own[-1] += weights[len(names) :].sum(0)  # all padding is one
        factor = round((x_t[0, 0].numel() / own.shape[1]) ** 0.5)
        maps[layer_label(layer)] = own.unflatten(1, (x_t.shape[2] // factor, -1))
    return AttentionMaps(names, maps, output)


def layer_label(layer: str) -> str:
    """ "up_blocks.1.attentions.0.transformer_blocks.0" -> "up 1.0"."""
    numbers = re.findall(r"(?:up_blocks|down_blocks|attentions)\.(\d+)", layer)
    return f"{layer.partition('_')[0]} {'.'.join(numbers)}"


def layer_labels(unet: UNet2DConditionModel) -> list[str]:
    """Labels of all cross-attention layers, in the order in which the UNet runs them."""
    labels = [layer_label(name) for name, _ in unet.named_modules() if name.endswith(CROSS)]
    return sorted(labels, key=lambda label: ("down", "mid", "up").index(label.partition(" ")[0]))
