"""What erasing does to the shipped model's pictures, by the judge that has seen real drawings only."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.quality import Bench
from esd_core import Change, Erasure, card, erase, evaluate, preset

pytestmark = pytest.mark.timeout(900)
READY_MADE = sorted(Path("assets/erasures").glob("*.safetensors"))


def judged(bench: Bench, concept: str, unet, pictures: int) -> dict[str, Change]:
    """Pictures of the concept, of what is near it and of others, before and after."""
    markers = {"judge": bench.markers["judge"]}
    found = evaluate(bench.gallery, bench.probe, concept, unet, markers=markers, pictures=pictures)
    return found.marks["judge"]


def lost(change: Change) -> float:
    """The share of pictures that no longer show what they should, net of those that now do."""
    return change.before - change.after


def erases(marks: dict[str, Change]) -> bool:
    """The concept fell below half of what it was, and every other group kept two thirds."""
    others = [change for group, change in marks.items() if group != "concept"]
    gone = marks["concept"].after < marks["concept"].before / 2
    return gone and all(change.after >= 2 / 3 * change.before for change in others)


def test_live_erases_a_church_and_spares_its_neighbours(bench):
    *_, last = erase(bench.model, preset("live", "a church", seed=0))
    marks = judged(bench, "church", last.unet, pictures=8)
    assert marks["concept"].before >= 0.8 and marks["concept"].after <= 0.2
    assert set(marks) == {"concept", "neighbours", "others"}
    assert lost(marks["neighbours"]) <= 0.25 and lost(marks["others"]) <= 0.15


@pytest.mark.parametrize("path", READY_MADE, ids=lambda path: path.stem)
def test_a_ready_made_erasure_does_what_its_name_says(bench, path):
    erasure = Erasure.load(path)
    (phrase,) = card.concepts(erasure)
    assert bench.probe.concept(phrase).name == path.stem.replace("-", " ")
    marks = judged(bench, phrase, erasure.apply(bench.model), pictures=5)
    assert erases(marks)
    seen = {g: round(change.before * change.total) for g, change in marks.items()}
    as_before = {g: Change(n, 0, 0, marks[g].total - n) for g, n in seen.items()}
    assert not erases(as_before)
