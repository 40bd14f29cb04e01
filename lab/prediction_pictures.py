"""Noise predictions of a real model as pictures: the noise, the picture it implies, its lean."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.study import figures
from esd_core.study.figures import channels, diverging
from esd_core.study.noise_predictions import Predictions

ROWS = ("the noise itself", "picture it implies (x_0)", "lean, cell by cell")


def prediction_sheet(
    model: DiffusionModel, at: Predictions, named: Mapping[str, Tensor], title: str
) -> Image.Image:
    """A column per prediction, three rows; a first column for x_t itself.

    Noise is shown by three of its channels. Lean is red where a prediction goes from eps_null
    towards the concept, blue where it goes away from it; one scale for all.

    Args:
        named: predictions `(1, C, h, w)` at `at.x_t` by what to call them.
        title: say who predicts, for which prompt, at which t, and where x_t comes from.
    """
    side = model.image_size
    drawn = model.decode(torch.cat([at.x_t, *(at.x_0(eps) for eps in named.values())]))
    leans = [at.towards_concept(eps) for eps in named.values()]
    most = max(float(lean.abs().quantile(0.98)) for lean in leans)
    blank = torch.ones(3, side, side)
    columns = [torch.stack([enlarged(channels(at.x_t[0]), side), drawn[0], blank])]
    for eps, picture, lean in zip(named.values(), drawn[1:], leans, strict=True):
        maps = (channels(eps[0]), diverging(lean, most))
        noise, heat = (enlarged(grid, side) for grid in maps)
        columns.append(torch.stack([noise, picture, heat]))
    return figures.sheet(torch.stack(columns, dim=1), ROWS, ["x_t", *named], scale=2, title=title)


def difference_sheet(model: DiffusionModel, points: list[Predictions], title: str) -> Image.Image:
    """What the concept adds, a column per point: to the implied picture (grey is nothing) and, cell
    by cell, how much noise (each column on its own scale)."""
    side, columns = model.image_size, []
    for at in points:
        null, concept = model.decode(torch.cat([at.x_0(at.eps_null), at.x_0(at.eps_concept)]))
        size = at.difference[0].norm(dim=0)
        heat = enlarged(diverging(size, float(size.max())), side)
        columns.append(torch.stack([null, concept, (concept - null) / 2 + 0.5, heat]))
    rows = ["implied by eps_null", "implied by eps_concept", "change of picture", "size of change"]
    return figures.sheet(
        torch.stack(columns, dim=1), rows, [f"t = {at.t}" for at in points], scale=2, title=title
    )


def enlarged(grid: Tensor, side: int) -> Tensor:
    """A small picture `(3, h, w)` with each cell as a square: `(3, side, side)`."""
    return F.interpolate(grid[None], (side, side), mode="nearest")[0]
