"""Is it still there? CLIP's answer for the pictures that a run draws on its way.

One picture a prompt is a hint, not a measurement: it starts from the same noise every time, so what
changes in the curve is the model. `esd_core.probe` measures with more.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.study.clip_probe import Probe
from esd_core.study.watched_prompts import CONCEPT, EMPTY, NEIGHBOUR, STRANGER, Watched

COLUMNS = ("update", "presence", "prompt")
# By a prompt's role; each at least 3 : 1 against paper and ink.
COLOURS = {CONCEPT: "#d1495b", NEIGHBOUR: "#3f8f88", STRANGER: "#5b84c4", EMPTY: "#7f7b72"}
Points = list[tuple[int, float, str]]  # update, presence, role


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
    return [*watched, Watched(EMPTY, "")]


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


def points(update: int, watched: Sequence[Watched], scores: Sequence[float]) -> Points:
    """A moment's points, one per role: the mean of its prompts."""
    by_role: dict[str, list[float]] = {}
    for item, score in zip(watched, scores, strict=False):
        role = item.role if item.role in COLOURS else CONCEPT  # as further concepts and contexts do
        by_role.setdefault(role, []).append(score)
    return [(update, sum(own) / len(own), role) for role, own in by_role.items()]


def frame(points: Points) -> pd.DataFrame:
    """The plot's data. Every role has a row, as gradio colours only those it began with."""
    rows = [(0, float("nan"), role) for role in COLOURS]
    return pd.DataFrame(rows + points, columns=list(COLUMNS)).astype(
        {"update": int, "presence": float, "prompt": str}
    )
