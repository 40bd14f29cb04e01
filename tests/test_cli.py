"""The command line on the embedded model: every command, exit codes, old spellings."""

import csv
import json

import pytest
from typer.testing import CliRunner

from esd_core.__main__ import app
from esd_core.config import EraseConfig
from esd_core.erasure import Erasure
from esd_core.models import EMOJI

pytestmark = pytest.mark.skipif(
    not (EMOJI / "unet").is_dir(), reason="the embedded model is not in this checkout"
)
SHORT = ["--iterations", "2", "--trajectories", "1", "--steps", "3"]


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "cat"
    result = run("erase", "a cat", *SHORT, "--out", str(path), "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["updates"] == 2
    return path


def test_a_run_writes_its_whole_folder(folder):
    names = {f.name for f in folder.iterdir()}
    assert names == {
        "erasure.safetensors", "config.json", "loss.csv", "loss.png", "before_after.png",
    }  # fmt: skip
    config = EraseConfig.from_dict(json.loads((folder / "config.json").read_text()))
    assert config.concepts[0].concept == "a cat" and config.iterations == 2
    rows = list(csv.DictReader((folder / "loss.csv").open()))
    assert [r["update"] for r in rows] == ["1", "2"]
    assert Erasure.load(folder / "erasure.safetensors").provenance["iterations_done"] == 2


def test_an_old_command_line_works(tmp_path):
    old = (
        "erase --prompt a,b --seperator , --train_method xattn --start_guidance 3 "
        "--negative_guidance 2 --iterations 1 --lr 1e-5 --ddim_steps 3 --image_size 64"
    ).split()
    assert run(*old, "--out", str(tmp_path / "old")).exit_code == 0
    config = EraseConfig.from_dict(json.loads((tmp_path / "old" / "config.json").read_text()))
    assert [t.concept for t in config.concepts] == ["a", "b"]
    assert (config.train_method, config.eta, config.learning_rate) == ("esd-x", 2.0, 1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a cat", "--eta", "99"], "eta is 99.0; use a number from -20 to 20"),
        (["a cat", "--train-method", "xatn"], "unknown train method 'xatn'"),
        (["a cat", "--preset", "fast"], "unknown preset 'fast'"),
        ([], "name at least one concept"),
    ],
)
def test_bad_input_is_a_sentence(arguments, message, tmp_path):
    result = run("erase", *arguments, "--out", str(tmp_path / "x"))
    assert isinstance(result.exception, ValueError) and message in str(result.exception)
    assert not (tmp_path / "x").exists()


def test_a_former_run_is_never_overwritten(folder):
    result = run("erase", "a cat", *SHORT, "--out", str(folder))
    assert "is not empty" in str(result.exception)


def test_sample_compare_probe_and_info_use_the_erasure(folder, tmp_path):
    file = str(folder / "erasure.safetensors")
    common = ["--erasure", file, "--steps", "2", "--out"]
    assert run("sample", "a cat", *common, str(tmp_path / "s.png")).exit_code == 0
    result = run("compare", "a cat", *common, str(tmp_path / "c.png"), "--json")
    assert json.loads(result.stdout)["rows"] == ["base", "erased"]
    scores = json.loads(run("probe", "cat", "--pictures", "1", "--json").stdout)
    assert [s["group"] for s in scores] == ["concept", "neighbours", "unrelated", "empty prompt"]
    assert json.loads(run("info", file, "--json").stdout)["model"] == "emoji"
    assert len(json.loads(run("info", "emoji", "--json").stdout)["objects"]) >= 200


def test_unknown_words_are_named(tmp_path):
    result = run("sample", "a zeppelin", "--steps", "1", "--out", str(tmp_path / "s.png"))
    assert "never seen: zeppelin" in result.stderr
