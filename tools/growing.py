"""Begin a model from the version before it, which drew at 64 pixels with 4 latent channels.

That one's weights are taken wherever they fit: a picture of 64 pixels has the same 16 x 16 grid of
latents, so the levels below 64 pixels already know the drawings. Only the level at 128 pixels and
four more latent channels are fresh, as a network of Progressive Growing of GANs (Karras et al.,
2018), arXiv 1710.10196, goes on from a smaller one. Used where ESD_START names that model's folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from tools import tokenizer

START = Path(os.environ["ESD_START"]) if os.environ.get("ESD_START") else None


def words() -> CLIPTokenizer:
    """The model before's tokenizer, whose numbers its text states are filed under; else a new one."""
    return CLIPTokenizer.from_pretrained(START / "tokenizer") if START else tokenizer.build()


def take(model: nn.Module, given: dict[str, Tensor]) -> list[str]:
    """Load every weight that has the same name and shape; return the names of those left fresh."""
    own = model.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict({**own, **fitting})
    return sorted(own.keys() - fitting.keys())


def placed(own: Tensor, given: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """`own` (out, in, ...) with `given` at these rows and columns; its rows read nothing else."""
    result = own.clone()
    result[rows] = 0
    result[torch.tensor(rows)[:, None], torch.tensor(columns)] = given
    return result


def unet(model: UNet2DConditionModel, folder: Path) -> list[str]:
    """Take over a UNet of fewer latent channels: the first ones are its own, the others unread.

    What it predicts for its own channels is the same, except for layers the new one lacks.
    """
    given, own = UNet2DConditionModel.from_pretrained(folder).state_dict(), model.state_dict()
    channels = len(given["conv_out.bias"])
    wide = torch.zeros_like(own["conv_in.weight"])
    wide[:, :channels] = given["conv_in.weight"]
    given["conv_in.weight"] = wide
    for name in ("conv_out.weight", "conv_out.bias"):
        given[name] = torch.cat([given[name], own[name][channels:]])
    return take(model, given)


def vae(model: AutoencoderKL, folder: Path) -> list[str]:
    """Take over an autoencoder with one level and some latent channels less."""
    old, own = AutoencoderKL.from_pretrained(folder).state_dict(), model.state_dict()
    given = {
        re.sub(r"^(encoder\.down_blocks)\.(\d)", lambda m: f"{m[1]}.{int(m[2]) + 1}", name): value
        for name, value in old.items()
    }
    latents, now = len(old["post_quant_conv.bias"]), len(own["post_quant_conv.bias"])
    few = list(range(latents))
    moments = few + [now + i for i in few]  # means, then logarithms of variances
    everything = list(range(old["encoder.conv_out.weight"].shape[1]))
    for name, rows, columns in (
        ("encoder.conv_out", moments, everything),
        ("quant_conv", moments, moments),
        ("post_quant_conv", few, few),
    ):
        given[f"{name}.weight"] = placed(own[f"{name}.weight"], old[f"{name}.weight"], rows, columns)
        given[f"{name}.bias"] = own[f"{name}.bias"].clone()
        given[f"{name}.bias"][rows] = old[f"{name}.bias"]
    wide = own["decoder.conv_in.weight"].clone()
    wide[:, :latents] = old["decoder.conv_in.weight"]
    given["decoder.conv_in.weight"] = wide
    return take(model, given)
