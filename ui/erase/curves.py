"""The curves of a run: loss, held-out error, and CLIP's answer to "is it still there?".

CLIP sees one picture a prompt, which is a hint and not a measurement: it starts from the same noise every
time, so what changes in the curve is the model. The Library's probe measures with more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr
import pandas as pd
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.study.clip_probe import Probe
from esd_core.study.watched_prompts import CONCEPT, EMPTY, NEIGHBOUR, STRANGER, Watched

ROWS = 300  # of a curve, at most
# By a prompt's role; each at least 3 : 1 against paper and ink.
COLOURS = {CONCEPT: "#d1495b", NEIGHBOUR: "#3f8f88", STRANGER: "#5b84c4", EMPTY: "#7f7b72"}
LEGEND = " ".join(f'<span style="color:{colour}">■</span> {role}' for role, colour in COLOURS.items())
LEGEND = f'<p class="esd-caption">{LEGEND}</p>'
Presences = list[tuple[int, float, str]]  # update, presence, role


def plot(frame: pd.DataFrame, label: str, **more: Any) -> gr.LinePlot:
    """A curve over the updates, of the frame's second column."""
    x, y, *_ = frame.columns
    how = dict(x_title="update", y_title=" ", show_label=False, buttons=[])
    return gr.LinePlot(frame, x=x, y=y, label=label, **how, **more)


def curve(points: list[tuple[int, float]], name: str) -> pd.DataFrame:
    """The data of a plot: about ROWS points at most, the last one always."""
    kept = points[:: len(points) // ROWS + 1]
    if points and kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    return pd.DataFrame(kept, columns=["update", name]).astype({"update": int, name: float})


def presence_curve(points: Presences) -> pd.DataFrame:
    """The data of the presence plot. Every role has a row, as gradio colours only those it began with. What
    precedes the updates stands at 0, before an edit at -1."""
    rows = [(0, float("nan"), role) for role in COLOURS]
    kinds = {"update": int, "presence": float, "prompt": str}
    first = -any(update == 0 for update, *_ in points)
    rows += [(max(update, first), presence, role) for update, presence, role in points]
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)


def judge(model: DiffusionModel) -> Probe | None:
    """The model's own CLIP, loaded once for all visitors; None without one, or a list of concepts."""
    return Probe.of(model) if model.clip_path is not None and model.vocabulary is not None else None


def with_empty(watched: Sequence[Watched]) -> list[Watched]:
    """The watched prompts and, once, the empty one: does the concept come unasked?"""
    if any(not item.prompt for item in watched):
        return list(watched)
    return [*watched, Watched(EMPTY, "")]


def presences(model: DiffusionModel, update: int, watched: Sequence[Watched], drawn: Tensor) -> Presences:
    """How much the pictures show what their prompts name, the mean by role; [] without a CLIP.

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
    by_role: dict[str, list[float]] = {}
    for item, own in zip(watched, drawn, strict=True):
        role = item.role if item.role in COLOURS else CONCEPT  # as further concepts and contexts do
        by_role.setdefault(role, []).append(probe.presence(own, item.shows or erased).mean().item())
    return [(update, sum(own) / len(own), role) for role, own in by_role.items()]
