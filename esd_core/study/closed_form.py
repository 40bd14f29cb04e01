"""Edit instead of train: one least-squares problem per key and value matrix, solved exactly.

Cross-attention reads a prompt through two matrices only, keys and values: `W c` for each of its
text states c. To make the model take one prompt for another, W is replaced by the matrix W' that
minimises

    sum_i |W' c_i - W c*_i|^2  +  p sum_j |W' c_j - W c_j|^2  +  lam |W' - W|^2

over the states c_i of what is edited (c*_i: of what it shall mean, at the same position of the
prompt) and c_j of what is preserved. Setting the derivative to zero gives

    W' = (sum_i v_i c_i^T + p sum_j W c_j c_j^T + lam W)
         (sum_i c_i c_i^T + p sum_j   c_j c_j^T + lam I)^-1

with v_i = W c*_i. Without the p terms this is TIME, the whole is equation 7 of UCE with the lam of
its code. ROME is the same idea for one state and one matrix of a language model, as a constraint
instead of a sum. Our edits match whole prompts, padding included, as TIME does; the authors' UCE
code matches the last word only.

Editing Implicit Assumptions in Text-to-Image Diffusion Models (Orgad et al., ICCV 2023),
arXiv 2303.08084 (TIME)
Unified Concept Editing in Diffusion Models (Gandikota et al., WACV 2024), arXiv 2308.14761 (UCE)
Locating and Editing Factual Associations in GPT (Meng et al., NeurIPS 2022), arXiv 2202.05262

Two later forms change values only, and match the last word of a prompt: `null_space_edit` moves W only in
directions that nothing uses which stays, `orthogonal_edit` only turns what W makes. Published for several
prompts, with weights for each and more terms; here is what they rest on.

SPEED: Scalable, Precise, and Efficient Concept Erasure (Li et al., ICLR 2026), arXiv 2503.07392
Orthogonal Concept Erasure for Diffusion Models (Sun et al., ICML 2026), arXiv 2605.28902 (OCE)
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

import torch
from torch import Tensor

from esd_core import selection
from esd_core.erasure import Erasure
from esd_core.models import DiffusionModel
from esd_core.placement import states_of


def least_squares_edit(
    weight: Tensor,
    states: Tensor,
    values: Tensor,
    *,
    preserved: Tensor | None = None,
    preserve: float = 1.0,
    lam: float = 0.1,
) -> Tensor:
    """The matrix W' of this module's equation; float64, whatever it is given.

    Args:
        weight: W, `(O, D)`.
        states: c_i, `(N, D)`.
        values: v_i, what `W' c_i` shall be, `(N, O)`.
        preserved: c_j, `(M, D)`, for which W' shall do what W does.
        preserve: p, their weight; 0 or more.
        lam: weight of staying close to W, above 0: without it a direction that no state has would
            be undetermined.

    Raises:
        ValueError: shapes do not fit, or a number is out of range.
    """
    if not 0 < lam < math.inf:
        raise ValueError(f"lam is {lam!r}; use a number above 0, for example 0.1")
    if not 0 <= preserve < math.inf:
        raise ValueError(f"preserve is {preserve!r}; use a number of 0 or more")
    if states.shape[1:] != weight.shape[1:] or values.shape != (len(states), len(weight)):
        raise ValueError(
            f"states {tuple(states.shape)} and values {tuple(values.shape)} do not fit a weight "
            f"{tuple(weight.shape)}; use (N, {weight.shape[1]}) and (N, {weight.shape[0]})"
        )
    w, c, v = (x.detach().to("cpu", torch.float64) for x in (weight, states, values))
    moments = c.T @ c + lam * torch.eye(c.shape[1], dtype=c.dtype)
    if preserved is not None:
        kept = preserved.detach().to("cpu", torch.float64)
        moments += preserve * kept.T @ kept
    # W' - W solves the same equations with what W misses at the edited states on the right.
    missed = (v - c @ w.T).T @ c
    return w + torch.linalg.solve(moments, missed.T).T  # moments is symmetric


def influenced(weight: Tensor, states: Tensor, values: Tensor, priors: Tensor) -> Tensor:
    """SPEED's prior filter: of the states `priors` `(M, D)` those whose values an edit that spares nothing,
    W' above with p 0 and lam 1, would move further than it moves them in the mean. Float64."""
    priors = priors.detach().to("cpu", torch.float64)
    change = least_squares_edit(weight, states, values, lam=1.0) - weight.detach().to("cpu", torch.float64)
    moved = (priors @ change.T).norm(dim=1)
    return priors[moved > moved.mean()]


def null_space_edit(
    weight: Tensor, states: Tensor, values: Tensor, priors: Tensor, threshold: float = 0.1
) -> Tensor:
    """SPEED's edit without its augmented priors and equality constraints:

        W' = W + (sum_i (v_i - W c_i) c_i^T P) (P sum_i c_i c_i^T P + I)^-1

    with P the projection onto the eigenvectors of the mean of e e^T over the `influenced` priors e whose
    eigenvalues are below `threshold`; what has no part in them stays exactly. Arguments as above; float64.
    """
    w, c, v = (x.detach().to("cpu", torch.float64) for x in (weight, states, values))
    kept = influenced(w, c, v, priors)
    sizes, vectors = torch.linalg.eigh(kept.T @ kept / max(len(kept), 1))
    free = vectors[:, sizes < threshold]
    return w + least_squares_edit(torch.zeros_like(w), c @ free @ free.T, v - c @ w.T, lam=1.0)


def orthogonal_edit(
    weight: Tensor, states: Tensor, guides: Tensor, kept: Tensor, alpha: float = 1000.0
) -> Tensor:
    """OCE's edit W' = R W: values keep their lengths and the angles between them, float64.

        R = U V^T  of the singular value decomposition  U S V^T = -alpha E E^T (I - G G^T) + W K W^T

    is the orthogonal matrix with the largest tr(R^T U S V^T). K asks that values stay; the other term, that
    what is erased points away from where it was, but for its part in what it may become. E and G are
    orthonormal bases of the values W c. (The authors' code makes det R positive by its last column's sign.)

    Args:
        weight: W, `(O, D)`.
        states: what is erased, `(N, D)`.
        guides: what it may become, `(M, D)`.
        kept: K, `(D, D)`: beta sum p p^T + gamma C + lam I in the paper, with p preserved states and C the
            mean of e e^T over many; the authors take gamma and lam 10, beta 0 or 1.
        alpha: weight of erasing; the authors take 500 for a style, 2000 for an object.
    """
    w, c, g, k = (x.detach().to("cpu", torch.float64) for x in (weight, states, guides, kept))
    erased, guide = (torch.linalg.qr(w @ x.T)[0] for x in (c, g))
    away = erased @ (erased.T - erased.T @ guide @ guide.T)
    u, _, vh = torch.linalg.svd(w @ k @ w.T - alpha * away)
    return u @ vh @ w


def closed_form_edit(
    model: DiffusionModel,
    edits: Mapping[str, str],
    *,
    preserve: str | Sequence[str] = (),
    preserve_weight: float = 1.0,
    lam: float = 0.1,
) -> Erasure:
    """Make prompts mean other prompts by editing all keys and values of cross-attention.

    Args:
        model: the frozen model; it stays as it is.
        edits: what to edit -> what it shall mean; `{"a cat": ""}` erases a cat into the empty
            prompt, so that the edited model's prediction for it becomes eps_null.
        preserve: the prompts, or the one prompt, that shall go on meaning what they mean.
        preserve_weight: weight of each preserved state relative to an edited one.
        lam: weight of staying close to the frozen matrices, above 0.

    Raises:
        ValueError: there is nothing to edit, a prompt is edited into itself, edited and preserved,
            or too long, or a number is out of range.
    """
    preserve = [preserve] if isinstance(preserve, str) else list(preserve)
    if not isinstance(edits, Mapping) or not edits or any(not concept.strip() for concept in edits):
        raise ValueError('name at least one prompt to edit, for example {"a cat": ""}')
    for concept, meaning in edits.items():
        if concept == meaning or concept in preserve:
            raise ValueError(f"{concept!r} is edited into itself, or edited and preserved; choose one")
    mark = time.perf_counter()
    states, goals = states_of(model, list(edits)), states_of(model, list(edits.values()))
    kept, tensors = states_of(model, preserve) if preserve else None, {}
    for name in selection.select(model.unet, "esd-x-strict"):
        weight = model.unet.get_parameter(name)
        values = goals @ weight.to(goals).T
        edited = least_squares_edit(weight, states, values, preserved=kept, preserve=preserve_weight, lam=lam)
        tensors[name] = edited.float()
    weights = {"preserve_weight": preserve_weight, "lam": lam}
    record = {
        "model": model.name,
        "closed_form": {"edits": dict(edits), "preserve": preserve, **weights},
        "seconds": round(time.perf_counter() - mark, 3),
        "versions": {p: version(p) for p in ("torch", "diffusers", "transformers")},
    }
    return Erasure(tensors, model.fingerprint, record)
