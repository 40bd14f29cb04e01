"""The arithmetic of the benchmarks, by hand, and what their recipes do to a tiny model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from bench import alike, official, recipes, sd_size, sized, speed_report, tried_report
from bench.judged import Watch
from bench.measured import Kept
from esd_core import EraseConfig, Probe, denoise, erase, preset
from esd_core.prompts import prompts_to_hold, staying
from esd_core.study.closed_form import closed_form_edit
from tools.catalog import OBJECTS

LONG = EraseConfig(
    "a cat",
    iterations=200,
    learning_rate=5e-3,
    num_inference_steps=4,
    trajectories=2,
    preserve=1.0,
    preserve_prompts=("a dog",),
)

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
        "floor/0": {"example": 0.1, speed_report.PLAIN: 0.11},
        "floor/1": {"example": 0.05, speed_report.PLAIN: 0.05},
        "floor/2": {"example": 0.2, speed_report.PLAIN: 0.3},
    }
    summary = speed_report.summarise(results)
    found = summary["to erasure"]
    assert found["live esd-x"]["median"] == pytest.approx(2 + 10 * 0.7)
    paper = found["paper esd-x"]
    assert paper["median"] is None and paper["reached"] == 0
    assert paper["times live"] == pytest.approx(2000 / 9) and paper["times live is a lower bound"]
    assert summary["peak memory / sampling"]["train esd-x"] == 1.25
    assert summary["seconds per example"][f"{speed_report.PLAIN} / floor"] == pytest.approx(1.1)
    assert "never" in speed_report.text(summary)
    json.dumps(summary, allow_nan=False)


def test_the_authors_script_is_compared_with_live_by_whole_runs():
    theirs = {"looks": [{"seconds": 3.0, "concept": 1.0}, {"seconds": 210.0, "concept": 0.25}]}
    ours = [{"measured seconds": 2.0, "concept": 1.0}, {"measured seconds": 7.0, "concept": 0.125}]
    run = "float32/esd-x/cat/0"
    line = official.compared("official", run, {f"official/{run}": theirs, f"live/{run}": ours})
    assert "210 s, 25% still seen" in line and "7.0 s, 12%" in line and "30 times" in line
    assert "not measured" in official.compared("official", run, {f"official/{run}": theirs})


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
    with pytest.raises(SystemExit, match="'here'.*'elsewhere'"):
        Kept(path, "elsewhere")


@pytest.mark.parametrize(("arch", "parameters"), [("sd-1.4", 859_520_964), ("sdxl", 2_567_463_684)])
def test_the_built_unets_have_stable_diffusions_size(arch, parameters):
    unet = sized.build_unet(arch)
    assert sum(p.numel() for p in unet.parameters()) == parameters


def test_a_model_without_its_own_text_encoder_can_be_placed_in(tiny):
    few = dict(iterations=1, num_inference_steps=1, trajectories=1, held_out=0)
    words = (sized.tokenizer(), sized.small_text_encoder(16))
    model = sized.Sized("tiny", *words, tiny.unet, tiny.vae, tiny.scheduler)
    *_, last = erase(model, preset("live-sd", "a cat", **few))
    assert last.erasure.is_lora and len(staying(model)) > 2000


def test_a_run_is_foretold_from_its_later_updates():
    found = sd_size.paces([3.0, 9.0, 10.0, 12.0], whole=16)  # the first update compiled
    assert found["updates per second"] == pytest.approx(1 / 1.5)
    assert found["whole run"] == pytest.approx(9 + 15 * 1.5)
    assert found["200 updates"] == pytest.approx(9 + 199 * 1.5)
    assert sd_size.paces([3.0, 5.0], whole=2)["whole run"] == pytest.approx(7)


# --- what was tried -----------------------------------------------------------------------------


def test_what_was_tried_is_compared_with_the_plain_way_of_the_same_round_or_seed():
    def clocks(value):
        return {"wall": 2 * value, "processor": value}

    def run(seconds, concept, others, **more):
        return {
            "seconds": clocks(seconds),
            "concept": concept,
            "others": others,
            "held-out error": 0.3,
            **more,
        }

    results = {
        "update/0": {"plain": clocks(2.0), "fused Adam": clocks(1.0)},
        "update/1": {"plain": clocks(1.0), "fused Adam": clocks(2.0)},
        "compiled/update": {
            "first": {"plain": clocks(3.0), "torch.compile": clocks(63.0)},
            "rounds": [{"plain": clocks(2.0), "torch.compile": clocks(3.0)}],
        },
        "compiled/teacher": {"failed": "no compiler"},
        "memory/plain/0": {"examples": 500.0, "rest": 480.0, "updates": 600.0},
        "run/plain/cat/0": run(8.0, 0.1, 0.9),
        "run/plain, again/cat/0": run(16.0, 0.1, 0.9, updates=16),
        "run/batch 4/cat/0": run(4.0, 0.0, 0.8),
        "run/until the error is flat/cat/0": run(4.0, 0.3, 1.0, updates=5),
    }
    found = tried_report.summarise(results)
    fused = found["seconds, as a ratio to plain"]["update: fused Adam"]["processor"]
    assert fused == {"median": 1.25, "least": 0.5, "greatest": 2.0, "rounds": 2}
    compiled = found["seconds, as a ratio to plain"]["update: torch.compile"]
    assert compiled["wall"]["median"] == 1.5
    assert found["seconds to compile"]["update"]["processor"] == 60
    runs = found["runs"]
    assert runs["batch 4"]["processor"]["median"] == 0.5  # of the plain run made beside it
    assert runs["until the error is flat"]["processor"]["median"] == 0.25  # of that made again
    assert runs["batch 4"]["others - plain"]["median"] == pytest.approx(-0.1)
    assert runs["batch 4"]["updates"] == 16 and runs["until the error is flat"]["updates"] == 5
    written = tried_report.text(found)
    assert "60 processor seconds" in written
    assert "no compiler" in written
    assert "| plain | 500 | 480 | 600 | 1 |" in written


@pytest.mark.parametrize(
    ("share", "shares"),
    [(recipes.rising, [0.25, 0.5, 0.75, 1, 1, 1]), (recipes.falling, [1, 0.933, 0.75, 0.5, 0.25, 0.067])],
)
def test_the_rate_rises_over_four_updates_or_falls_to_nothing(tiny, monkeypatch, share, shares):
    rates, step = [], torch.optim.Adam.step

    def noting(self):
        rates.append(self.param_groups[0]["lr"] / LONG.learning_rate)
        return step(self)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    recipes.at_rate(share)(tiny, replace(LONG, iterations=6))
    assert rates == pytest.approx(shares, abs=1e-3)


def test_every_kept_trial_has_its_recipe():
    names = {
        name.split("/")[1]
        for name in json.loads(Path("bench/results/tried.json").read_text())["results"]
        if name.startswith("run/")
    }
    assert names <= set(recipes.RECIPES)


def test_a_run_stops_once_its_error_is_flat(tiny):
    step = recipes.until_flat(tiny, replace(LONG, learning_rate=1e-8))
    assert step.iteration == recipes.PATIENCE  # nothing fell, from the first update on
    assert recipes.until_flat(tiny, replace(LONG, iterations=1)).iteration == 1


def test_a_warm_start_begins_at_the_closed_form(tiny):
    edit = closed_form_edit(tiny, {"a cat": ""}, preserve=["a dog"])
    begun = recipes.from_closed_form(tiny, replace(LONG, iterations=0)).erasure.tensors
    assert edit.tensors.items() and all((begun[n] == v).all() for n, v in edit.tensors.items())
    assert recipes.from_closed_form(tiny, replace(LONG, iterations=2)).iteration == 2


def test_the_mean_of_the_last_half_is_of_the_weights_after_its_updates(tiny):
    config = replace(LONG, iterations=4)
    passed = [step.erasure.tensors for step in erase(tiny, config)][3:]
    mean = recipes.averaged(tiny, config).erasure.tensors
    for name, value in mean.items():
        assert_close(value, (passed[0][name] + passed[1][name]) / 2)
        assert not (value == passed[1][name]).all()


def test_prompts_can_be_held_where_the_concept_passes(tiny):
    step = recipes.held_where_the_concept_passes(tiny, replace(LONG, iterations=1))
    held = step.examples.preserve
    assert_close(held.x_t, step.examples.train[0].x_t)
    assert_close(held.embeds, tiny.encode(["a dog"]).expand_as(held.embeds))
    fresh = denoise.predict(tiny.unet, held.x_t, held.t, held.embeds)
    assert_close(held.frozen, fresh, atol=1e-5, rtol=1e-4)


def test_what_looks_alike_is_held_whatever_its_category(emoji, monkeypatch):
    names = [c.name for c in emoji.vocabulary.of_kind("object")]
    pictures = {n: torch.eye(len(names))[i] for i, n in enumerate(names)}
    pictures["crown"] = pictures["cat"]  # nothing else looks like either
    assert alike.alike(Probe.of(emoji), "cat", pictures)[0] == "a crown"
    monkeypatch.setattr(alike, "looks", lambda _: pictures)
    config = preset("live", "a cat", train_method="esd-x")
    held = alike.holding(emoji, config).preserve_prompts
    plain = prompts_to_hold(emoji, config)
    assert held[:2] == ("", "a crown") and "a cat" not in held
    assert len(held) == len(set(held)) == len(plain) and "a crown" not in plain
