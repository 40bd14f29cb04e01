"""The quality bench's bookkeeping: plans, resuming, averages, tables and the plot."""

import argparse
import json

import pytest

from bench import quality, quality_report
from esd_core import Change, Gallery


def row(concept, settings, seed, pictures, after=2, lost=3):
    groups = {
        "concept": dict(kept=after, lost=18 - after, gained=0, never=2),
        "objects": dict(kept=30, lost=0, gained=0, never=0),
        "others": dict(kept=40 - lost, lost=lost, gained=0, never=0),
    }
    distance = dict(pixels=0.2, pixels_interval=[0.1, 0.3], clip=0.2, clip_interval=[0.1, 0.3])
    return {
        "model": "m",
        "concept": concept,
        "settings": settings,
        "seed": seed,
        "pictures": pictures,
        "kind": "object",
        "seconds": 1.0,
        "row_seconds": 2.0,
        "held_out_error": 0.5,
        "distances": {"others": distance},
        "marks": {"judge": groups, "clip": groups},
    }


def options(**given):
    defaults = dict(
        preset="live",
        concepts=None,
        seeds=[0],
        eta=None,
        preserve=None,
        from_objects=None,
        recipe=None,
        kinds=["object", "style", "background"],
    )
    return argparse.Namespace(**{**defaults, "train_method": None, "set": [], **given})


def test_the_live_plan_covers_objects_styles_and_backgrounds():
    plan = quality.plans(options())
    concepts = [concept for concept, _, _ in plan]
    assert len(set(concepts)) == len(concepts) == 20 + 6 + 3
    assert {"church", "parachute"} <= set(concepts)
    assert {c for c in concepts if c.endswith(" style")} == set(quality.STYLES)


def test_a_grid_of_eta_and_preservation():
    plan = quality.plans(options(concepts=["cat"], eta=[1, 3], preserve=[0, 3], set=["batch_size=4"]))
    assert len(plan) == 4
    assert plan[0][1] == {"preset": "live", "batch_size": 4, "eta": 1, "preserve": 0}
    plan = quality.plans(options(concepts=["cat"], recipe=["plain", "batch 4"]))
    assert [settings["recipe"] for _, settings, _ in plan] == ["plain", "batch 4"]
    plan = quality.plans(options(kinds=["background"], from_objects=["none", "styles"]))
    assert [s["from_objects"] for _, s, _ in plan] == 3 * ["none"] + 3 * ["styles"]


def test_finished_runs_are_not_repeated(bench, tmp_path, monkeypatch):
    runs, out, run = [], tmp_path / "q", bench.run
    monkeypatch.setattr(bench, "gallery", Gallery(bench.model, num_inference_steps=1))
    monkeypatch.setattr(bench, "run", lambda *key: runs.append(key) or run(*key))
    quick = {"preset": "live", "iterations": 1, "trajectories": 1, "held_out": 0, "preserve": 0.0}
    quick |= {"num_inference_steps": 2, "batch_size": 1}
    plan = [("cat", quick, 0), ("dog", quick, 0)]
    quality.work(bench, plan[:1], 1, out)
    lines = out.with_suffix(".jsonl")
    lines.write_text(lines.read_text() + '{"model": "m", "conc')  # killed while writing
    rows = quality.work(bench, plan, 1, out)
    assert len(runs) == 2 and [r["concept"] for r in rows] == ["cat", "dog"]
    written = json.loads(json.dumps(rows))  # lists where there were tuples
    assert quality.work(bench, plan, 1, out) == written and len(runs) == 2
    assert json.loads(out.with_suffix(".json").read_text())["rows"] == written
    quality.work(bench, plan[:1], 2, out)  # other pictures are another run
    assert len(runs) == 3


def test_averages_weigh_concepts_alike_however_many_seeds():
    live = {"preset": "live"}
    rows = [row("cat", live, s, 20, after=0) for s in range(3)] + [row("dog", live, 0, 20, after=8)]
    made = quality_report.averages(rows, "judge", "concept")
    assert made["after"][0] == pytest.approx(0.2)
    assert made["after"][1] == 0 and made["after"][2] == pytest.approx(0.4)
    assert quality_report.pooled(rows, "judge", "others") == Change(148, 12, 0, 0)
    assert quality_report.pooled(rows, "judge", "neighbours") is None


def test_settings_are_compared_over_what_all_of_them_have():
    live, strong = {"preset": "live"}, {"preset": "live", "eta": 3.0}
    rows = [row("cat", live, 0, 20), row("dog", live, 0, 20), row("cat", strong, 0, 20, lost=20)]
    kept = quality_report.common(rows)
    assert [r["concept"] for r in kept] == ["cat", "cat"]
    text = quality_report.markdown(rows)
    assert text.startswith("# Quality: live; live, eta 3\n") and "\n### Trade-off\n" in text
    assert text.count("\n### live\n") == text.count("\n### live, eta 3\n") == 2  # by each marker
    assert "| live | 1 |" in text and "| live, eta 3 | 1 |" in text
    assert "-50 (" in text and "**mean of 2 objects**" in text
    assert "100% +0 (" in text  # what erasing a style leaves of the objects


def test_the_plot_is_a_picture(tmp_path):
    live, strong = {"preset": "live"}, {"preset": "live", "eta": 3.0}
    rows = [row(c, s, 0, 20) for c in ("cat", "dog") for s in (live, strong)]
    quality_report.write(rows, tmp_path / "q", "two cores")
    assert (tmp_path / "q.png").stat().st_size > 5000
    assert "two cores" in (tmp_path / "q.md").read_text()
