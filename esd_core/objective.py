"""The erasing target, the central equation of the paper, and its loss.

    eps_edited(x_t, c, t)  <-  eps_null - eta * (eps_concept - eps_null)

The right side is classifier-free guidance with scale -eta, computed by the frozen model: the
edited model's *conditional* prediction learns what the frozen model would say if it were guided
away from the concept. The formula holds for v-prediction as well, since its weights sum to one.

Erasing Concepts from Diffusion Models (Gandikota et al., ICCV 2023), arXiv 2303.07345
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def erasing_target(null: Tensor, concept: Tensor, eta: float, context: Tensor | None = None) -> Tensor:
    """What the edited model should predict for the concept.

    Args:
        null: frozen prediction for the empty prompt, `(B, C, h, w)`; for a style that is erased
            from pictures of objects, for the object alone.
        concept: frozen prediction for the concept, same shape.
        eta: erasing strength in the paper's units; 1 is its default, 0 gives `null` itself.
        context: frozen prediction for the prompt that the concept is erased *from*. If given, the
            target is `context - eta * (concept - null)`: attribute erasure, as the authors' 2025
            script does with `--erase_from` (`esd_sd.py`, rohitgandikota/erasing).
    """
    centre = null if context is None else context
    return centre - eta * (concept - null)


def erasing_loss(edited: Tensor, target: Tensor) -> Tensor:
    """Mean squared error `()` of two predictions `(B, C, h, w)`; the target carries no gradient."""
    return F.mse_loss(edited.float(), target.detach().float())


def eta_to_official(eta: float, *, erase_from: bool) -> float:
    """The 2025 script's `--negative_guidance` for our eta.

    Without `--erase_from` that script centres its target on `eps_concept`, which makes its number
    one larger than the paper's: `eps_concept - (eta + 1) d = eps_null - eta d`, d = eps_concept -
    eps_null.
    """
    return eta if erase_from else eta + 1
