"""The pictures that a run shows on its way: few steps, the same seeds before and after.

The frozen model's are kept: it never changes, so nobody waits for the same ones twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Any, TypeVar

from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.sampling import generating

SEEDS = (1, 2)
# Eight steps of this solver look like twenty of DDIM.
STEPS = 8
PREVIEW: dict[str, Any] = dict(num_inference_steps=STEPS, scheduler="dpm++", guidance_scale=4.0)
RUNS = 4  # whose pictures of the frozen model are kept

T = TypeVar("T")
_frozen: OrderedDict[Hashable, Tensor] = OrderedDict()


def draw(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    show: Callable[[int], T],
) -> Generator[T, None, Tensor]:
    """Pictures `(prompts, seeds, 3, H, W)` in [0, 1]; yields `show(n)` after the nth step.

    The frozen model's come at once if they are known.
    """
    if unet is model.unet and (drawn := known(model, prompts, seeds)) is not None:
        return drawn
    listed = [prompt for prompt in prompts for _ in seeds]
    made = yield from generating(
        model, listed, lambda step: show(step.step + 1), seeds=[*seeds] * len(prompts), unet=unet, **PREVIEW
    )
    drawn = made.unflatten(0, (len(prompts), len(seeds)))
    if unet is model.unet:
        _frozen[_key(model, prompts, seeds)] = drawn
        if len(_frozen) > RUNS:
            _frozen.popitem(last=False)
    return drawn


def known(model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int] = SEEDS) -> Tensor | None:
    """The frozen model's pictures, if they were drawn for one of the last runs."""
    key = _key(model, prompts, seeds)
    if key in _frozen:
        _frozen.move_to_end(key)
    return _frozen.get(key)


def forget() -> None:
    """Draw the frozen model's pictures anew."""
    _frozen.clear()


def _key(model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int]) -> Hashable:
    return model.fingerprint, model.prediction_type, tuple(prompts), tuple(seeds)
