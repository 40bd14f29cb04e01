"""Begin a model from the version before it, which drew the same latents at half the size.

A picture of 64 pixels has the same 16 x 16 grid of latents there as one of 128 pixels here. So the
denoiser and its text encoder go on from that model's, on its latents, and only the autoencoder's
level at 128 pixels is fresh: as a network of Progressive Growing of GANs (Karras et al., 2018), arXiv
1710.10196, goes on from a smaller one. Used where ESD_START names that model's folder.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

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


def unet(model: UNet2DConditionModel, folder: Path) -> list[str]:
    """Take over a UNet; layers that the new one lacks are left behind."""
    return take(model, UNet2DConditionModel.from_pretrained(folder).state_dict())


def vae(model: AutoencoderKL, folder: Path) -> list[str]:
    """Take over an autoencoder with one level less."""
    old = AutoencoderKL.from_pretrained(folder).state_dict()
    return take(
        model,
        {
            re.sub(r"^(encoder\.down_blocks)\.(\d)", lambda m: f"{m[1]}.{int(m[2]) + 1}", k): v
            for k, v in old.items()
        },
    )
