"""What did an erasure remove, and what did it take with it? Accuracies before and after.

The counterpart of the paper's Table 2 (arXiv 2303.07345) for any model with a vocabulary: pictures of the
erased concept, of its neighbours and of others are drawn from the same noise with the frozen and the edited
UNet, and markers, such as the model's own CLIP, say which of them show what was asked for (bench/quality.py
adds an independent classifier). All shares carry 95 % intervals; too few pictures are "inconclusive".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core.study.clip_probe import Probe
from esd_core.study.intervals import Interval, bootstrap_mean, paired_change, wilson
from esd_core.study.questions import Gallery, asks
from esd_core.vocabulary import Concept

GONE = 0.2  # the concept is gone if it is recognised in fewer than this share of its pictures
KEPT = 0.1  # others are kept if their share falls by less than this
WEAK = 0.5  # a marker that recognises fewer before erasing cannot tell afterwards

# Pictures (B, 3, H, W) in [0, 1], and what each was asked to show, all of one kind -> is it there?
Marker = Callable[[Tensor, Sequence[Concept]], list[bool]]


@dataclass(frozen=True)
class Change:
    """Pictures recognised before and after erasing, counted in pairs from the same noise."""

    kept: int  # recognised before and after
    lost: int  # before only
    gained: int  # after only
    never: int

    @classmethod
    def count(cls, before: Sequence[bool], after: Sequence[bool]) -> Change:
        """Count pairs."""
        pairs = list(zip(before, after, strict=True))
        return cls(*(pairs.count((b, a)) for b in (True, False) for a in (True, False)))

    @property
    def total(self) -> int:
        """Pairs in all."""
        return sum(astuple(self))

    @property
    def before(self) -> float:
        """Share recognised before, NaN without pictures."""
        return (self.kept + self.lost) / (self.total or math.nan)

    @property
    def after(self) -> float:
        """Share recognised after, NaN without pictures."""
        return (self.kept + self.gained) / (self.total or math.nan)

    @property
    def intervals(self) -> tuple[Interval, Interval, Interval]:
        """95 % bounds of `before`, of `after` and of their difference."""
        before = wilson(self.kept + self.lost, self.total)
        return before, wilson(self.kept + self.gained, self.total), paired_change(*astuple(self))

    def verdict(self, erased: bool) -> str:
        """Of what these pictures should show "gone" or "not gone" if it was erased, else "harmed" or "kept";
        "inconclusive" if they are too few, or too few showed it before."""
        low, high = self.intervals[1] if erased else self.intervals[2]
        threshold, below, above = (GONE, "gone", "not gone") if erased else (-KEPT, "harmed", "kept")
        told = below if high < threshold else above if low > threshold else "inconclusive"
        return told if self.before >= WEAK else "inconclusive"

    def to_dict(self) -> dict[str, Any]:
        """JSON values: counts, shares and bounds."""
        names = ("before_interval", "after_interval", "change_interval")
        shares = {"before": self.before, "after": self.after} if self.total else {}
        return {**asdict(self), **shares, **dict(zip(names, self.intervals, strict=True))}


@dataclass(frozen=True)
class Distance:
    """How far pictures moved; 1 is as far apart as two unrelated pictures of the base are."""

    pixels: float  # mean absolute difference
    pixels_interval: Interval
    clip: float  # 1 - cosine of CLIP's image embeddings
    clip_interval: Interval


@dataclass(frozen=True)
class Evaluation:
    """One erasure, before and after. Groups: concept, neighbours, others, objects (of all those
    pictures, if a style or background was erased); distances also for the empty prompt."""

    concept: Concept
    marks: dict[str, dict[str, Change]]  # marker -> group -> counts
    distances: dict[str, Distance]  # group -> how far

    def verdicts(self, marker: str) -> dict[str, str]:
        """A word for each group, by the thresholds at the top of this file."""
        return {group: change.verdict(group == "concept") for group, change in self.marks[marker].items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        marks = {
            marker: {g: {**groups[g].to_dict(), "verdict": said} for g, said in self.verdicts(marker).items()}
            for marker, groups in self.marks.items()
        }
        distances = {group: asdict(distance) for group, distance in self.distances.items()}
        return {"concept": self.concept.phrase, "marks": marks, "distances": distances}

    def text(self) -> str:
        """The shares with their bounds and verdicts, and the distances, as lines of a table."""
        lines = []
        for marker, groups in self.marks.items():
            lines.append(f"  {'by ' + marker:12}{'n':>4}  {'before':16}{'after':16}change (points)")
            for group, verdict in self.verdicts(marker).items():
                change = groups[group]
                before, after, (low, high) = change.intervals
                shares = f"{_share(change.before, before):16}{_share(change.after, after):16}"
                fall = f"{100 * (change.after - change.before):+4.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"
                lines.append(f"  {group:12}{change.total:4}  {shares}{fall:18}{verdict}")
        moved = ", ".join(
            f"{group} {d.pixels:.2f} [{d.pixels_interval[0]:.2f}, {d.pixels_interval[1]:.2f}]"
            for group, d in self.distances.items()
        )
        return "\n".join([*lines, f"  moved, if 1 is as far as two unrelated pictures: {moved}"])


def _share(value: float, bounds: Interval) -> str:
    return f"{value:4.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}]"


def evaluate(
    gallery: Gallery,
    probe: Probe,
    text: str,
    unet: UNet2DConditionModel,
    *,
    markers: Mapping[str, Marker] | None = None,
    pictures: int = 28,
    first_seed: int = 0,
) -> Evaluation:
    """Draw, mark and compare what one erasure changed.

    Args:
        gallery: of the frozen model; give the same one to several calls, its pictures are kept.
        probe: the model's CLIP and vocabulary.
        text: the erased concept, by name ("cat") or phrase ("a cat").
        unet: the edited UNet.
        markers: who says what a picture shows; default the model's own CLIP.
        pictures: of the concept, 1 or more; half as many of its neighbours, twice as many of others.
        first_seed: of the noise; independent repeats need seeds far apart.

    Raises:
        ValueError: the concept is unknown, or there is nothing to compare it with.
    """
    concept = probe.concept(text)
    markers = markers or {"clip": probe.recognises}
    groups = asks(probe, concept, pictures, first_seed)
    drawn = {group: (gallery.base(a), gallery.edited(a, unet)) for group, a in groups.items()}
    marked = {g: (concept.kind, a, *drawn[g]) for g, a in groups.items() if g != "empty prompt"}
    both = groups["concept"] + groups["others"]
    if concept.kind != "object" and both[0].of_kind("object"):
        before, after = (torch.cat(x) for x in zip(drawn["concept"], drawn["others"], strict=True))
        marked["objects"] = ("object", both, before, after)
    marks: dict[str, dict[str, Change]] = {name: {} for name in markers}
    for group, (kind, asked, before, after) in marked.items():
        wanted = [c for a in asked if (c := a.of_kind(kind))]
        for name, marker in markers.items():
            marks[name][group] = Change.count(marker(before, wanted), marker(after, wanted))
    return Evaluation(concept, marks, _distances(probe, drawn))


def _distances(probe: Probe, drawn: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, Distance]:
    """How far each group's pictures moved, by pixels and by CLIP's image embeddings."""
    spaces: list[Callable[[Tensor], Tensor]] = [lambda x: x, probe.embed_images]
    measures = (lambda a, b: (a - b).abs().mean(dim=(1, 2, 3)), lambda a, b: 1 - (a * b).sum(dim=1))
    found: dict[str, list[Any]] = {group: [] for group in drawn}
    for embed, measure in zip(spaces, measures, strict=True):
        seen = embed(drawn["others"][0])
        scale = measure(seen, seen.roll(1, dims=0)).mean()
        for group, (before, after) in drawn.items():
            moved = (measure(embed(before), embed(after)) / scale).tolist()
            found[group] += [sum(moved) / len(moved), bootstrap_mean(moved)]
    return {group: Distance(*values) for group, values in found.items()}
