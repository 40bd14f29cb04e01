"""A table of runs: what it means, that a killed sweep goes on, and two processes at it."""

import copy
import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from esd_core import erasing
from esd_core.cli import sweep_command
from esd_core.cli.app import app
from esd_core.config import preset
from esd_core.erasure import Erasure
from esd_core.support.parallel import Team
from esd_core.vocabulary import Concept, Vocabulary
from tests.conftest import WORDS

CONCEPTS = (
    Concept("cat", "a cat", "object", "animals"),
    Concept("dog", "a dog", "object", "animals"),
    Concept("rocket", "a rocket", "object", "vehicles"),
    Concept("noto style", "noto style", "style", "style"),
)
SHORT = "iterations,num_inference_steps,trajectories"
TABLE = f"""concept,preset,train_method,eta,seed,{SHORT}
a cat; a dog,live,esd-x; esd-u,1,0,2,3,2
a cat,,esd-lora,3,1,2,3,2
"""


def plan(model, table=TABLE) -> list[sweep_command.Planned]:
    return sweep_command.plan(model, sweep_command.read_table(table))


@pytest.fixture
def planned(tiny):
    return plan(tiny)


def results(planned, out) -> list[dict[str, str]]:
    sweep_command.tabulate(planned, out)
    return list(csv.DictReader((out / "results.csv").open()))


def test_a_cell_with_several_values_stands_for_all_combinations(planned):
    made = [(p.config.concepts[0].concept, p.config.train_method, p.config.eta) for p in planned]
    assert made == [
        ("a cat", "esd-x", 1),
        ("a cat", "esd-u", 1),
        ("a dog", "esd-x", 1),
        ("a dog", "esd-u", 1),
        ("a cat", "esd-lora", 3),
    ]
    short = dict(iterations=2, num_inference_steps=3, trajectories=2)
    assert planned[-1].config == preset("live", "a cat", eta=3, seed=1, **short)
    assert len({p.name for p in planned}) == 5


def test_the_same_run_twice_is_one():
    assert len(sweep_command.read_table("concept\na cat\na cat; a cat\n")) == 1


def test_a_table_without_presets_takes_the_usual_one_of_the_model():
    table = "concept,preset\na cat,\na cat,paper\n"
    for model, usual in (("emoji", "live"), ("folder/of/another", "live-sd")):
        assert list(sweep_command.read_table(table, model)) == [
            preset(usual, "a cat"),
            preset("paper", "a cat"),
        ]


def test_a_name_and_its_phrase_are_one_run_and_other_weights_another(tiny):
    knows = replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))
    (run,) = plan(knows, "concept\ncat; a cat\n")
    assert run.config.concepts[0].concept == "a cat"
    other = replace(knows, unet=copy.deepcopy(knows.unet))
    next(other.unet.parameters()).data.add_(1)
    (another,) = plan(other, "concept\ncat\n")
    assert another.config == run.config and another.name != run.name


def test_contexts_and_presets_are_columns():
    (config,) = sweep_command.read_table("concept,erase_from,preset\nred,a red cat,paper\n")
    assert config.concepts[0].erase_from == "a red cat" and config.iterations == 1000


def test_columns_are_spelled_as_on_the_command_line():
    options = dict(num_inference_steps=7, learning_rate=0.5, eta=2.0, preserve_prompts=("a dog", "a cat"))
    for header in (
        "concept,num_inference_steps,learning_rate,eta,preserve_prompts",
        "concept,steps,lr,negative_guidance,preserve-prompt",
        "concept,--ddim_steps,--lr,--negative-guidance,--preserve-prompts",
    ):
        (config,) = sweep_command.read_table(f'{header}\na red cat,7,.5,+2,"[""a dog"", ""a cat""]"\n')
        assert config == preset("live", "a red cat", **options)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("concept,steps,num-inference-steps\na cat,1,2\n", "two columns .*num_inference_steps"),
        ("concept,seed\na cat,1.5\n", "line 2: seed is '1.5'"),
        ("concept,preset\na cat,fast\n", "line 2: .*'fast'"),
        ("concept,zeta\na cat,1\n", "'zeta'"),
        ("eta\n1\n", "column named concept"),
        ("concept\n", "no line"),
        ("", "column named concept"),
        ("concept,eta\na cat,1\na dog,99\n", "line 3: eta is 99.0"),
        ("concept,eta\na cat,much\n", "line 2: eta is 'much'"),
        ("concept,eta\na cat\n", "line 2: .*cells"),
        ("concept,eta\n,1\n", "line 2: .*concept"),
        ("concept,x_t_source\na cat,images\n", "line 2: x_t_source 'images'"),
    ],
)
def test_a_bad_table_says_where(table, message):
    with pytest.raises(ValueError, match=message):
        sweep_command.read_table(table)


def test_processes_share_all_runs_and_keep_those_of_a_teacher_together(tiny, planned, tmp_path):
    parts = [sweep_command.share(tiny, planned, tmp_path, Team(0, 1))]
    assert sorted(p.name for p in parts[0]) == sorted(p.name for p in planned)
    teachers = [(p.config.concepts, p.config.seed) for p in parts[0]]
    changes = sum(a != b for a, b in zip(teachers, teachers[1:], strict=False))
    assert changes == len(set(teachers)) - 1


def test_a_killed_sweep_goes_on_and_repeats_nothing(tiny, planned, tmp_path):
    running = sweep_command.carry_out(tiny, sweep_command.share(tiny, planned, tmp_path, Team()), tmp_path)
    first = [next(running).name, next(running).name]
    running.close()
    written = {n: (tmp_path / n / "erasure.safetensors").stat().st_mtime_ns for n in first}
    (tmp_path / first[1] / sweep_command.RESULT).unlink()  # as if killed just before it was finished
    rest = sweep_command.share(tiny, planned, tmp_path, Team())
    assert len(rest) == 4 and first[0] not in [p.name for p in rest]
    assert len(list(sweep_command.carry_out(tiny, rest, tmp_path))) == 4
    after = {n: (tmp_path / n / "erasure.safetensors").stat().st_mtime_ns for n in first}
    assert after[first[0]] == written[first[0]] and after[first[1]] > written[first[1]]
    rows = results(planned, tmp_path)
    assert [(r["concept"], r["eta"], r["ending"]) for r in rows] == [
        ("a cat", "1", "done"),
        ("a cat", "1", "done"),
        ("a dog", "1", "done"),
        ("a dog", "1", "done"),
        ("a cat", "3", "done"),
    ]
    assert all(float(r["held_out_error"]) > 0 for r in rows)
    for run in planned:
        erasure = Erasure.load(tmp_path / run.name / "erasure.safetensors")
        assert erasure.provenance["config"] == json.loads(json.dumps(run.config.to_dict()))
    assert Image.open(tmp_path / "sheet.png").height > 5 * 16


def test_a_run_that_diverges_is_told_and_not_repeated(tiny, tmp_path):
    # So near is the target that a far too large step looks like what it is.
    planned = plan(tiny, f"concept,learning_rate,eta,{SHORT}\na cat,1,-0.9,50,3,2\n")
    list(sweep_command.carry_out(tiny, planned, tmp_path))
    (row,) = results(planned, tmp_path)
    assert row["ending"] == "diverged"
    assert sweep_command.share(tiny, planned, tmp_path, Team()) == []


def test_where_nothing_good_was_learned_the_table_says_so_and_no_erasure_is_saved(
    tiny, tmp_path, monkeypatch
):
    real = erasing.erase

    def diverging(model, config, **_):
        step = next(real(model, config))
        yield step
        raise erasing.DivergenceError("the loss exploded", step.erasure)

    planned = plan(tiny, f"concept,{SHORT}\na cat,2,3,2\n")
    with monkeypatch.context() as patched:
        patched.setattr(erasing, "erase", diverging)
        list(sweep_command.carry_out(tiny, planned, tmp_path))
    (row,) = results(planned, tmp_path)
    assert (row["ending"], row["updates"], row["last_loss"]) == ("diverged", "0", "")
    assert not (tmp_path / row["folder"] / "erasure.safetensors").exists()


def test_strips_of_unlike_size_share_a_sheet(tiny, tmp_path):
    knows = replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))
    planned = plan(knows, f"concept,erase_from,{SHORT}\ncat,,1,3,2\ncat,a dog,1,3,2\n")
    list(sweep_command.carry_out(knows, planned, tmp_path))
    first, second = (tmp_path / p.name / sweep_command.STRIP for p in planned)
    with Image.open(second) as strip:  # as of a style, which has fewer controls, at another size
        strip.crop((0, 0, strip.width // 2, strip.height)).resize((40, 20)).save(second)
    assert len(results(planned, tmp_path)) == 2
    whole = Image.open(first)
    assert Image.open(tmp_path / "sheet.png").size == (whole.width, whole.height + 20)


def test_a_method_without_weights_is_refused_before_any_run(tiny):
    unet = copy.deepcopy(tiny.unet)
    for name in [name for name, _ in unet.named_children()]:
        if name != "conv_in":
            setattr(unet, name, torch.nn.Identity())
    with pytest.raises(ValueError, match="esd-x"):
        plan(replace(tiny, unet=unet), "concept,train_method\na cat,esd-x\n")


def test_two_processes_write_one_table_and_one_sheet(tiny, tmp_path):
    tiny.to_pipeline().save_pretrained(tmp_path / "model")
    (tmp_path / "table.csv").write_text(f"concept,preset,{SHORT}\na cat,live,2,3,2\na dog,,2,3,2\n")
    out = tmp_path / "out"
    made = subprocess.run(
        [
            sys.executable,
            "-m",
            "esd_core",
            "sweep",
            str(tmp_path / "table.csv"),
            "--out",
            str(out),
            "--processes",
            "2",
            "--device",
            "cpu",
            "--model",
            str(tmp_path / "model"),
        ],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.split() == [str(out / "results.csv"), str(out / "sheet.png")]
    assert "process 0: 1 of" in made.stderr and "process 1: 1 of" in made.stderr
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert len(rows) == 2 and {r["ending"] for r in rows} == {"done"}
    plain = [r for r in rows if r["preset"] == "live-sd"]  # where the table names none
    assert plain and all(
        json.loads((out / r["folder"] / "config.json").read_text())["batch_size"] == 4 for r in plain
    )
    assert Image.open(out / "sheet.png").width > 100


def test_a_name_of_the_vocabulary_becomes_its_phrase(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("concept,iterations,num_inference_steps,trajectories\ncat,1,2,2\n")
    made = CliRunner().invoke(app, ["sweep", str(table), "--out", str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    (config,) = (tmp_path / "out").glob("*/config.json")
    made = json.loads(config.read_text())
    assert made["concepts"][0]["concept"] == "a cat"
    assert made["learning_rate"] == 0.05  # of `live`, the embedded model's own preset
