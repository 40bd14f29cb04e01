"""Is it still there? CLIP's answer for the pictures that a run draws on its way.

Two pictures a prompt are a hint, not a measurement: they start from the same noise every time, so
what changes in the curve is the model. `esd_core.probe` measures with more.
"""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.probe import Probe
from ui.prompts import Watched

COLUMNS = ("update", "presence", "pictures of")
# For the roles in their order; each at least 3 : 1 against paper and ink.
COLOURS = ("#d1495b", "#3f8f88", "#5b84c4", "#b07d2b", "#8e6bb0", "#7f7b72")
Points = list[tuple[int, float, str]]  # update, presence, series


def possible(model: DiffusionModel) -> bool:
    """Whether the model brings a CLIP and a list of concepts."""
    return model.clip_path is not None and model.vocabulary is not None


def judge(model: DiffusionModel) -> Probe | None:
    """The model's own CLIP, loaded once for all visitors; None if it has none."""
    return Probe.of(model) if possible(model) else None


def with_empty(watched: Sequence[Watched]) -> list[Watched]:
    """The watched prompts and, once, the empty one: does the concept come unasked?"""
    if any(not item.prompt for item in watched):
        return list(watched)
    return [*watched, Watched("asks for nothing", "")]


def series(item: Watched) -> str:
    """A curve's name."""
    return item.prompt or "(empty prompt)"


def score(model: DiffusionModel, watched: Sequence[Watched], drawn: Tensor) -> list[float]:
    """How much each prompt's pictures show what it names; [] without a CLIP or a known concept.

    Presence is the cosine similarity of a picture with a concept's phrase, less that with the
    average phrase of its kind: 0 is "no more than anything else". The concept is the prompt's own;
    where there is none, as for the empty prompt, it is the erased one.

    Args:
        watched: the prompts, the erased concept first.
        drawn: pictures `(prompts, seeds, 3, H, W)` in [0, 1].
    """
    probe, erased = judge(model), watched[0].shows
    if probe is None or erased is None:
        return []
    return [
        probe.presence(own, item.shows or erased).mean().item()
        for item, own in zip(watched, drawn, strict=True)
    ]


def frame(points: Points) -> pd.DataFrame:
    """The plot's data."""
    return pd.DataFrame(points, columns=list(COLUMNS)).astype(
        {"update": int, "presence": float, "pictures of": str}
    )


def plot(watched: Sequence[Watched], points: Points, total: int) -> gr.LinePlot:
    """The plot, its axis and its colours, for a run of `total` updates."""
    colours = dict(zip(map(series, watched), COLOURS, strict=False))
    return gr.LinePlot(frame(points), x_lim=[0, max(total, 1)], color_map=colours)
