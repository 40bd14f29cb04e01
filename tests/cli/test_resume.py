"""A run that was killed or stopped goes on as if nothing had happened, or says why it cannot."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from esd_core import erasing
from esd_core.cli.app import app
from esd_core.erasure import Erasure

ROOT = Path(__file__).parents[2]
OPTIONS = "--train-method esd-x --steps 3 --trajectories 2 --iterations 5 --lr 0.002".split()
FILES = {"erasure.safetensors", "config.json", "loss.csv", "loss.png", "before_after.png"}
# Saves after every update, and is killed once it has made the fourth.
KILLED = """
import os, signal, sys
from esd_core import erasing
from esd_core.cli import erasing_run
from esd_core.cli.app import app

erasing_run.SAVE_EVERY, erasing_run.SAVING, erase = 0.0, float("inf"), erasing.erase

def killed(*values, **named):
    for step in erase(*values, **named):
        if step.iteration == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield step

erasing.erase = killed
app(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    """The tiny model as a folder, without a vocabulary."""
    folder = tmp_path_factory.mktemp("model")
    tiny.to_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory) -> Path:
    """The folder of a run that nothing stopped."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    erase("a cat", *OPTIONS, "--model", model, "--out", str(out))
    return out


@pytest.fixture(scope="module")
def stopped_once(model, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("stopped") / "run"
    stopped("a cat", *OPTIONS, "--model", model, "--out", str(out))
    return out


@pytest.fixture
def half(stopped_once, tmp_path) -> Path:
    """The folder of a run that was stopped after three of five updates."""
    return Path(shutil.copytree(stopped_once, tmp_path / "half"))


def run(*arguments: str):
    return CliRunner().invoke(app, ["erase", *arguments])


def erase(*arguments: str, ends: int = 0):
    made = run(*arguments)
    assert made.exit_code == ends, made.output
    return made


def stopped(*arguments: str) -> None:
    """Ctrl-C once two updates are made; the third is finished."""
    with pytest.MonkeyPatch.context() as patched:
        real = erasing.erase

        def pressing(*values, **named):
            for step in real(*values, **named):
                yield step
                if step.iteration == 2:
                    signal.raise_signal(signal.SIGINT)

        patched.setattr(erasing, "erase", pressing)
        erase(*arguments, ends=130)


def same_run(one: Path, other: Path) -> None:
    """The same weights bit for bit, and the same record but for the seconds."""
    first, second = (Erasure.load(folder / "erasure.safetensors") for folder in (one, other))
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert first.provenance["config"] == second.provenance["config"]
    assert (one / "config.json").read_text() == (other / "config.json").read_text()
    rows = [list(csv.DictReader((folder / "loss.csv").open())) for folder in (one, other)]
    assert [row | {"seconds": ""} for row in rows[0]] == [row | {"seconds": ""} for row in rows[1]]


def test_a_killed_run_goes_on_bit_for_bit(model, whole, tmp_path):
    out = tmp_path / "o"
    command = [sys.executable, "-c", KILLED, "erase", "a cat", *OPTIONS, "--model", model, "--out", str(out)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert Erasure.load(out / "erasure.safetensors").provenance["iterations_done"] == 3
    assert {"checkpoint.safetensors"} == {file.name for file in out.iterdir()} - FILES
    told = json.loads(erase("--resume", str(out), "--json").stdout)  # it knows its model, too
    assert told["updates"] == 5 and set(told["files"]) == FILES and told["folder"] == str(out)
    same_run(whole, out)


def test_a_stopped_run_goes_on_to_more_updates(model, whole, tmp_path):
    out = tmp_path / "o"
    fewer = [*OPTIONS, "--iterations", "4", "--model", model, "--out", str(out)]
    stopped("a cat", *fewer)
    assert Erasure.load(out / "erasure.safetensors").provenance["iterations_done"] == 3
    erase("a cat", "--resume", str(out), "--iterations", "5", "--lr", "0.002")  # what is said again agrees
    first, second = (Erasure.load(folder / "erasure.safetensors") for folder in (whole, out))
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)


def test_given_pictures_are_not_needed_again(model, tmp_path):
    Image.new("RGB", (20, 20), "red").save(tmp_path / "a.png")
    of_pictures = ["a cat", *OPTIONS, "--images", str(tmp_path / "a.png"), "--model", model]
    erase(*of_pictures, "--out", str(tmp_path / "whole"))
    stopped(*of_pictures, "--out", str(tmp_path / "o"))
    erase("--resume", str(tmp_path / "o"))
    same_run(tmp_path / "whole", tmp_path / "o")


def test_a_line_of_the_losses_that_the_checkpoint_does_not_know_is_written_once(half):
    with (half / "loss.csv").open("a") as file:  # as if killed between the two files
        file.write("4,0.5,1.0,32,\n")
    erase("--resume", str(half))
    assert [row["update"] for row in csv.DictReader((half / "loss.csv").open())] == list("012345")


def test_what_cannot_go_on_says_so_in_one_sentence(model, whole, half, tiny_v, tmp_path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "checkpoint.safetensors").write_bytes(b"nothing")
    shutil.copytree(half, tmp_path / "no checkpoint")
    (tmp_path / "no checkpoint" / "checkpoint.safetensors").unlink()
    (tmp_path / "no checkpoint" / "erasure.safetensors").unlink()
    other = tmp_path / "other"
    tiny_v.with_unet(Erasure.load(whole / "erasure.safetensors").apply(tiny_v)).to_pipeline().save_pretrained(
        other
    )
    before = {file.name: file.read_bytes() for file in half.iterdir()}
    refused = {
        "nowhere": ["--resume", "nowhere"],
        "checkpoint": ["--resume", str(tmp_path / "no checkpoint")],
        "its run has ended": ["--resume", str(whole)],
        "weights": ["--resume", str(half), "--model", str(other)],
        "iterations": ["--resume", str(half), "--eta", "2"],
        "began with": ["a dog", "--resume", str(half)],
        "3 updates": ["--resume", str(half), "--iterations", "2"],
        "--preset": ["--resume", str(half), "--preset", "live"],
        "--out": ["--resume", str(half), "--out", "elsewhere"],
        "readable": ["--resume", str(tmp_path / "damaged")],
    }
    for message, arguments in refused.items():
        made = run(*arguments)
        assert made.exit_code == 2, made.output
        assert message in made.stderr and made.stderr.count("\n") == 1, made.stderr
    assert {file.name: file.read_bytes() for file in half.iterdir()} == before


def test_several_processes_go_on_as_one_did(model, whole, half, tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "esd_core", "erase", "--resume", str(half), "--device", "cpu"]
    made = subprocess.run(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert made.returncode == 0
    first, second = (Erasure.load(folder / "erasure.safetensors") for folder in (whole, half))
    assert all(torch.allclose(first.tensors[name], second.tensors[name], atol=1e-4) for name in first.tensors)
