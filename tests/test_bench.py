"""The arithmetic of the benchmarks, by hand."""

import json

import pytest

from bench import sd_size, speed_report
from bench.judged import Watch
from bench.kept import Kept
from tools.catalog import OBJECTS

BASE = {"concept": 1.0, "others": 0.9}
ROW = {"before": 2.0, "update": 0.5, "examples": 8}


def look(updates, concept, others):
    return {"updates": updates, "concept": concept, "others": others}


@pytest.mark.parametrize(
    ("looks", "updates"),
    [
        ([look(4, 0.5, 0.9), look(8, 0.05, 0.86), look(16, 0.0, 0.5)], 8),
        ([look(4, 0.0, 0.5), look(8, 0.2, 0.9)], None),  # gone but others too; or still there
        ([], None),
    ],
)
def test_erased_means_gone_while_others_are_spared(looks, updates):
    assert speed_report.reached(looks, BASE) == updates


def test_seconds_to_erasure_are_updates_times_the_median_update():
    results = {
        "base/cat": BASE,
        "timing/live/0": {"esd-x": ROW},
        "timing/live/1": {"esd-x": {**ROW, "update": 1.5}},
        "timing/live/2": {"esd-x": {**ROW, "update": 0.7}},
        "timing/paper/0": {"esd-x": {**ROW, "before": 0.0, "update": 2.0}},
        "run/live/esd-x/cat/0": [look(10, 0.0, 0.9)],
        "run/paper/esd-x/cat/0": [look(1000, 0.9, 0.9)],
        "memory/sample": 100.0,
        "memory/train esd-x": 125.0,
        "floor/0": {"example": 0.1},
    }
    summary = speed_report.summarise(results)
    found = summary["to erasure"]
    assert found["live esd-x"]["median"] == pytest.approx(2 + 10 * 0.7)
    paper = found["paper esd-x"]
    assert paper["median"] is None and paper["reached"] == 0
    assert paper["times live"] == pytest.approx(2000 / 9) and paper["times live is a lower bound"]
    assert summary["peak memory / sampling"]["train esd-x"] == 1.25
    assert "never" in speed_report.text(summary)
    json.dumps(summary, allow_nan=False)


def test_a_watch_asks_for_the_object_in_every_style_and_for_others():
    watch = Watch.over("cat", 14, 100)
    cat = [o.name for o in OBJECTS].index("cat")
    assert watch.concept[:, 0].tolist() == [cat] * 14
    assert cat not in watch.others[:, 0].tolist() and len(watch.others) == 100
    assert len(watch.concept[:, 1].unique()) > 1


def test_a_stopped_benchmark_does_only_what_is_missing(tmp_path):
    path, done = tmp_path / "kept.json", []
    tasks = [(name, lambda name=name: done.append(name) or 1) for name in "abc"]
    Kept(path, "here").measure(tasks[:2], 100)
    Kept(path, "here").measure(tasks, -1)  # no budget
    assert done == ["a", "b"]
    Kept(path, "here").measure(tasks, 100)
    assert done == ["a", "b", "c"]
    (tmp_path / "other.json").write_text('{"rounds": 1}')
    with pytest.raises(SystemExit, match="another benchmark"):
        Kept(tmp_path / "other.json", "here")
    with pytest.raises(SystemExit, match="holds measurements of 'here', this is 'elsewhere'"):
        Kept(path, "elsewhere")


@pytest.mark.parametrize(("arch", "parameters"), [("sd-1.4", 859_520_964), ("sdxl", 2_567_463_684)])
def test_the_built_unets_have_stable_diffusions_size(arch, parameters):
    unet = sd_size.build_unet(arch)
    assert sum(p.numel() for p in unet.parameters()) == parameters
