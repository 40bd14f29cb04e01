"""Which weights an erasure may change: train method -> parameter names.

The vocabulary is that of the authors' scripts (rohitgandikota/erasing): the 2025 names `esd-x` (the paper's
ESD-x), `esd-x-strict`, `esd-u`, `esd-all`, and the 2023 ones where they mean another set; `esd-lora` is ours,
a change of low rank (see placement). Beware: "ESD-u" names different sets in the 2023 and the 2025 code;
ours follow each script exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

ALIASES = {"xattn": "esd-x", "xattn-strict": "esd-x-strict", "esd-a": "esd-all"}

# In the 2023 code's CompVis names: output_blocks.6 and .8, input_blocks.4 and .7.
_XLAYER = ("up_blocks.2.attentions.0.", "up_blocks.2.attentions.2.")
_SELFLAYER = ("down_blocks.1.attentions.0.", "down_blocks.2.attentions.0.")


def _head_or_time(name: str) -> bool:
    return name.startswith(("conv_norm_out.", "conv_out.", "time_embedding."))


# Each rule sees the parameter's full name and whether its module is a Linear or Conv2d. The 2023
# rules match module names, in which cross-attention (`attn2`) has no norm of its own.
_RULES: dict[str, Callable[[str, bool], bool]] = {  # and how many it selects of Stable Diffusion 1.x's
    "esd-x": lambda name, dense: ".attn2." in name and dense,  # 43,962,560
    "esd-x-strict": lambda name, dense: ".attn2.to_k." in name or ".attn2.to_v." in name,  # 19,169,280
    "esd-lora": lambda name, dense: ".attn2.to_k." in name or ".attn2.to_v." in name,  # 49,536 a rank
    "esd-u": lambda name, dense: ".attn2." not in name and dense,  # 815,358,084
    "esd-all": lambda name, dense: dense,  # 859,320,644
    "selfattn": lambda name, dense: ".attn1." in name,  # 49,574,080
    "noxattn": lambda name, dense: ".attn2." not in name and not _head_or_time(name),  # 813,495,680
    "notime": lambda name, dense: not _head_or_time(name),  # 857,458,240
    "full": lambda name, dense: True,  # 859,520,964
    "xlayer": lambda name, dense: ".attn2." in name and name.startswith(_XLAYER),  # 3,605,760
    "selflayer": lambda name, dense: ".attn1." in name and name.startswith(_SELFLAYER),  # 8,193,920
}
TRAIN_METHODS = tuple(_RULES)

DESCRIPTIONS = {
    "esd-x": "cross-attention: how words steer the picture; best for a named style or object",
    "esd-x-strict": "only keys and values of cross-attention, of which every weight may change",
    "esd-lora": "keys and values of cross-attention, by a LoRA that reacts to the concept and little else",
    "esd-u": "all layers but cross-attention; for concepts that appear without being named",
    "esd-all": "every linear and convolution layer; the strongest and least specific edit",
    "selfattn": "self-attention: how parts of the picture relate; the Space's ESD-self",
    "noxattn": "the paper's ESD-u: all but cross-attention, output head and time embedding",
    "notime": "everything but the output head and the time embedding",
    "full": "every parameter",
    "xlayer": "cross-attention of two late blocks only",
    "selflayer": "self-attention of two early blocks only",
}


def canonical(method: str) -> str:
    """The documented name for `method`, which may be an alias. ValueError if the method is unknown."""
    name = ALIASES.get(method, method) if isinstance(method, str) else ""
    if name not in _RULES:
        choices = ", ".join((*TRAIN_METHODS, *ALIASES))
        raise ValueError(f"unknown train method {method!r}; choose one of: {choices}")
    return name


def select(unet: nn.Module, method: str) -> list[str]:
    """Names of the parameters that `method` trains, in the order of `named_parameters`. ValueError if the
    method is unknown, or selects nothing in this UNet."""
    from torch import nn  # not above: --help shows the methods and need not wait for torch

    rule = _RULES[canonical(method)]
    dense = {n for n, m in unet.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    names = [n for n, _ in unet.named_parameters() if rule(n, n.rpartition(".")[0] in dense)]
    if not names:
        raise ValueError(f"train method {method!r} selects no parameter of this UNet; try 'esd-x'")
    return names


def count(unet: nn.Module, method: str, rank: int = 1) -> int:
    """How many weights an erasure by `method` has; of `esd-lora` one for each row and column of a matrix and
    rank. ValueError as `select`."""
    shapes = [unet.get_parameter(name).shape for name in select(unet, method)]
    return sum(sum(shape) * rank if method == "esd-lora" else shape.numel() for shape in shapes)
