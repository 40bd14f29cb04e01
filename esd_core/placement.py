"""Where a change of low rank acts: the directions in which a concept stands out from what shall stay.

Cross-attention reads a prompt through keys and values alone, `W e` for each of its text states e, so a change
of W reaches another prompt as far as their states share directions. The train method `esd-lora` makes it

    W' = W + A B,      B (r, D) solved here, the same for all matrices;  A (O, r) solved or trained

Let C be the mean of e e^T over the states of all that shall stay, C + lam I = L L^T, and E (n, D) the states
of what is erased. In the *whitened* states E L^-T little is left of what many prompts share. Of their right
singular vectors v_k the r with the largest singular values s_k give the rows of B

    B_k = sqrt(n) / s_k  v_k^T L^-1        (so that over E the mean square of B_k e is 1)

For a single state e this is ROME's direction, C^-1 e. `solve` finds A, too: as in closed-form editing
(`study.closed_form`) each state of the concept shall be read as another one, here as the erasing target of
the states, e_null - eta (e_concept - e_null). Trained, A begins there or at 0.

Locating and Editing Factual Associations in GPT (Meng et al., NeurIPS 2022), arXiv 2202.05262 (ROME)
Mass-Editing Memory in a Transformer (Meng et al., ICLR 2023), arXiv 2210.07229 (several at once)
LoRA (Hu et al., ICLR 2022), arXiv 2106.09685, whose names the two factors have: B is lora_A, A is lora_B
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from huggingface_hub.constants import HF_HOME
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from esd_core import selection
from esd_core.config import EraseConfig, Target
from esd_core.models import DiffusionModel, fingerprint
from esd_core.objective import erasing_target
from esd_core.prompts import asked, naming, prompts_to_hold, staying
from esd_core.support.files import write_safetensors

AT_ONCE = 128  # prompts through the text encoder
COMPOSITIONS = 40  # in which a style's states are looked at
NEAR = 0.2  # the share in C of what is nearest; without it an erased guitar takes most neighbours along


class LowRankLinear(nn.Linear):
    """`W e + A B e`: a linear layer that keeps its own weight, and a trainable change of it."""

    def __init__(self, frozen: nn.Linear, lora_a: Tensor, lora_b: Tensor) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = frozen.in_features, frozen.out_features
        self.weight, self.bias = frozen.weight, frozen.bias
        self.lora_A = nn.ParameterDict({"weight": nn.Parameter(lora_a, requires_grad=False)})
        self.lora_B = nn.ParameterDict({"weight": nn.Parameter(lora_b)})

    def forward(self, states: Tensor) -> Tensor:
        """Keys or values `(..., O)` of text states `(..., D)`."""
        seen = F.linear(states, self.lora_A["weight"])
        return super().forward(states) + F.linear(seen, self.lora_B["weight"])


def place(model: DiffusionModel, unet: UNet2DConditionModel, config: EraseConfig) -> dict[str, nn.Parameter]:
    """Give keys and values of `unet` their change of low rank; returns both factors by name. ValueError as
    `solve`."""
    rows, readings = solve(model, config)
    made = dict[str, nn.Parameter]()
    for name in selection.select(unet, config.train_method):
        path = name.removesuffix(".weight")
        frozen = unet.get_submodule(path)
        begin = config.edit * frozen.weight.detach().to("cpu", torch.float64) @ readings
        layer = LowRankLinear(frozen, *(x.to(model.device, torch.float32) for x in (rows, begin)))
        unet.set_submodule(path, layer)
        made |= {f"{path}.{n}": p for n, p in layer.named_parameters() if n.startswith("lora_")}
    return made


def solve(model: DiffusionModel, config: EraseConfig) -> tuple[Tensor, Tensor]:
    """The directions B `(r, D)`, `config.rank` for each concept, and what they shall be read as in addition,
    R `(D, r)`: the edit of a matrix W is A = W R. Both float64 on the CPU.

    With the states' targets T (n, D), R minimises |T - E - E B^T R^T|^2 + n tr(R (B C B^T) R^T). ValueError
    if a concept has fewer directions than `rank`.
    """
    kept = covariance(model, config)
    parts = [read_as(model, target, config) for target in config.concepts]
    rows = torch.cat([directions(states, kept, config.rank, config.lam) for states, _ in parts])
    states, targets = (torch.cat(column) for column in zip(*parts, strict=True))
    seen = states @ rows.T
    moments = seen.T @ seen + len(states) * rows @ kept @ rows.T
    return rows, torch.linalg.solve(moments, seen.T @ (targets - states)).T


def directions(states: Tensor, kept: Tensor, rank: int, lam: float) -> Tensor:
    """B `(rank, D)` of the states E `(n, D)` and C `(D, D)`, all float64; `lam`, above 0, is the variance
    taken for a direction that nothing which stays uses. ValueError if the states have fewer directions."""
    if rank > min(states.shape):
        raise ValueError(f"rank is {rank}; these states have {min(states.shape)} directions: use no more")
    lower = torch.linalg.cholesky(kept + lam * torch.eye(len(kept), dtype=kept.dtype))
    white = torch.linalg.solve_triangular(lower, states.T, upper=False).T
    _, sizes, vectors = torch.linalg.svd(white, full_matrices=False)
    rows = torch.linalg.solve_triangular(lower.T, vectors[:rank].T, upper=True).T
    return rows * (math.sqrt(len(states)) / sizes[:rank, None])


def read_as(model: DiffusionModel, target: Target, config: EraseConfig) -> tuple[Tensor, Tensor]:
    """States under which the edited model is trained for a concept, and their erasing targets, `(n, D)` each:
    those of the phrase, and with `from_objects` of the style in other objects, too."""
    lines = dict.fromkeys(line[:2] for line in asked(model, target, config, [0] * (COMPOSITIONS + 1)))
    states, neutral = (states_of(model, texts) for texts in zip(*lines, strict=True))
    if target.erase_from:
        concept = states_of(model, [target.concept])
        return states, erasing_target(neutral, concept, config.eta, context=states)
    return states, erasing_target(neutral, states, config.eta)


def states_of(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """All text states of some prompts, `(N L, D)`, float64 on the CPU."""
    return model.encode(list(prompts)).flatten(0, 1).to("cpu", torch.float64)


def covariance(model: DiffusionModel, config: EraseConfig) -> Tensor:
    """C `(D, D)`, float64: the mean of e e^T over the states of all that shall stay while this is erased, in
    which the concept's neighbours, or `preserve_prompts`, have a share of NEAR.
    """
    prompts, near = staying(model), prompts_to_hold(model, config)
    named, length = naming(model, config, [*prompts, *near]), model.tokenizer.model_max_length
    near, named = ([p for p in near if p not in named] or [""]), [p for p in prompts if p in named]
    rest = (_kept_total(model, prompts) - _total(model, named)) / max((len(prompts) - len(named)) * length, 1)
    return (1 - NEAR) * rest + NEAR * _total(model, near) / (len(near) * length)


def _total(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """The sum of e e^T over the states of some prompts, `(D, D)` float64."""
    batches = (states_of(model, prompts[i : i + AT_ONCE]) for i in range(0, len(prompts), AT_ONCE))
    none = torch.zeros([model.text_encoder.config.hidden_size] * 2, dtype=torch.float64)
    return sum((states.T @ states for states in batches), none)


def _kept_total(model: DiffusionModel, prompts: Sequence[str]) -> Tensor:
    """The same, of all that shall stay whatever is erased: kept in the Hugging Face cache."""
    computed = "\n".join([str(model.text_encoder.dtype), *prompts])
    listed = hashlib.sha256(computed.encode()).hexdigest()[:12]
    file = Path(HF_HOME) / "esd-lab" / f"{fingerprint(model.text_encoder)}-{listed}.safetensors"
    with suppress(OSError, SafetensorError):
        return load_file(file)["total"]
    total = _total(model, prompts)
    with suppress(OSError):  # a folder that cannot be written to costs time only
        write_safetensors(file, {"total": total})
    return total
