"""The command line on a tiny model: every command, exit code and message; old command lines."""

import copy
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from typer.main import get_command
from typer.testing import CliRunner

from esd_core import erasing
from esd_core.cli import app as main
from esd_core.cli import erasing_run, options
from esd_core.config import EraseConfig, preset
from esd_core.erasing import DivergenceError
from esd_core.erasure import Erasure
from esd_core.exchange.formats import read_pictures
from esd_core.exchange.pipelines import load_model
from tests.conftest import WIDTH, WORDS, tokenizer

FILES = {"erasure.safetensors", "config.json", "loss.csv", "loss.png", "before_after.png"}
STOPPED = {*FILES, "checkpoint.safetensors"}
SHORT = "--iterations 3 --steps 3 --trajectories 2".split()
OBJECTS = {"cat": "animals", "dog": "animals", "rocket": "vehicles"}


def clip() -> CLIPModel:
    """A judge that knows nothing; enough to be asked."""
    torch.manual_seed(0)
    words = tokenizer()
    text = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=words.model_max_length,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8))


@pytest.fixture(scope="module")
def model(tiny, tmp_path_factory) -> str:
    """The tiny model as a folder, with a vocabulary and a CLIP beside it."""
    folder = tmp_path_factory.mktemp("model")
    tiny.to_pipeline().save_pretrained(folder)
    clip().save_pretrained(folder / "clip")
    tokenizer().save_pretrained(folder / "clip")
    concepts = [
        dict(name=name, phrase=f"a {name}", kind="object", category=category)
        for name, category in OBJECTS.items()
    ]
    (folder / "concepts.json").write_text(json.dumps({"concepts": concepts, "words": WORDS}))
    return str(folder)


@pytest.fixture(scope="module")
def erasure(model, tmp_path_factory) -> Path:
    """An erasure of "a cat", made by the command."""
    out = tmp_path_factory.mktemp("run") / "cat"
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", str(out))
    assert made.exit_code == 0, made.output
    return out / "erasure.safetensors"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch, two_steps):
    """Default outputs land in a temporary folder."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str):
    return CliRunner().invoke(main.app, list(arguments), prog_name="python -m esd_core")


def ok(*arguments: str) -> str:
    made = run(*arguments)
    assert made.exit_code == 0, made.output
    return made.stdout


def config_of(folder: str | Path) -> EraseConfig:
    return EraseConfig.from_dict(json.loads((Path(folder) / "config.json").read_text()))


# --- help -------------------------------------------------------------------------------------


def commands():
    top = get_command(main.app).commands
    return {**top, **{f"export {k}": v for k, v in top["export"].commands.items()}}


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option_is_documented(name):
    command = commands()[name]
    assert command.help
    assert [p.name for p in command.params if not p.help] == []
    assert ok(*name.split(), "--help")


def test_erase_has_every_option_of_its_config():
    named = {f.name for f in fields(EraseConfig)} - {"concepts"}
    assert set(options.ERASING) == named
    assert named <= {p.name for p in commands()["erase"].params}


def test_help_tells_range_and_presets():
    assert options.described("eta").endswith("; -20 to 20; default: 1.0.")
    told = options.described("iterations")
    assert told.endswith(
        "default: live 12, edit 0, live-sd 50, paper 1000, official-2025 200, official-2026 200."
    )
    assert "default: live 0.05, edit 0.05, live-sd 0.01," in options.described("learning_rate")


# --- erase ------------------------------------------------------------------------------------


def test_a_run_writes_its_whole_folder(model):
    told = json.loads(ok("erase", "cat", *SHORT, "--lr", "0.002", "--model", model, "--json"))
    folder = Path(told["folder"])
    assert folder == Path("outputs/a-cat-esd-lora")
    assert set(told["files"]) == {f.name for f in folder.iterdir()} == FILES
    assert told["ending"] == "done" and told["updates"] == 3 and told["concepts"] == ["a cat"]
    assert config_of(folder) == preset(
        "live", "a cat", iterations=3, num_inference_steps=3, trajectories=2, learning_rate=0.002
    )
    rows = list(csv.DictReader((folder / "loss.csv").open()))
    assert [row["update"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[0]["loss"] == "" and float(rows[3]["loss"]) == pytest.approx(told["last_loss"])
    assert 0 < float(rows[3]["held_out_error"]) < 1
    saved = Erasure.load(folder / "erasure.safetensors")
    saved.check(load_model(model))
    assert EraseConfig.from_dict(saved.provenance["config"]) == config_of(folder)
    assert Image.open(folder / "before_after.png").size > (100, 100)


def test_a_former_run_is_never_touched(model, erasure):
    arguments = ["erase", "a cat", *SHORT, "--model", model]
    first, second = (ok(*arguments).splitlines()[0] for _ in range(2))
    assert (first, second) == ("outputs/a-cat-esd-lora", "outputs/a-cat-esd-lora-2")
    refused = run(*arguments, "--out", str(erasure.parent))
    assert refused.exit_code == 2 and str(erasure.parent) in refused.stderr


def test_a_preset_comes_first_and_given_options_win(model):
    ok("erase", "a cat", "--preset", "paper", "--iterations", "1", "--steps", "4", "--model", model)
    assert config_of("outputs/a-cat-esd-x") == preset("paper", "a cat", iterations=1, num_inference_steps=4)


def test_contexts_and_weights_belong_to_concepts(model):
    ok(
        "erase",
        "cat",
        "dog",
        "--erase-from",
        "a red cat",
        "--erase-from",
        "a blue dog",
        "--weight",
        "2",
        "--weight",
        "1",
        *SHORT,
        "--model",
        model,
        "--out",
        "o",
    )
    targets = config_of("o").concepts
    assert [(t.concept, t.erase_from, t.weight) for t in targets] == [
        ("a cat", "a red cat", 2),
        ("a dog", "a blue dog", 1),
    ]


def test_an_old_command_line_of_the_2023_script_works(model):
    old = [
        "--prompt",
        "a cat, a dog",
        "--train_method",
        "noxattn",
        "--start_guidance",
        "2",
        "--negative_guidance",
        "1.5",
        "--iterations",
        "2",
        "--lr",
        "1e-5",
        "--seperator",
        ",",
        "--image_size",
        "16",
        "--ddim_steps",
        "3",
        "--devices",
        "0,0",
        "--config_path",
        "configs/v1-inference.yaml",
        "--diffusers_config_path",
        "unet.json",
        "--ckpt_path",
        model,
    ]
    made = run("erase", *old, "--out", "old")
    assert made.exit_code == 0, made.output
    assert torch.cuda.is_available() or "CPU" in made.stderr
    assert config_of("old") == preset(
        "live",
        ["a cat", "a dog"],
        train_method="noxattn",
        start_guidance=2.0,
        eta=1.5,
        iterations=2,
        learning_rate=1e-5,
        image_size=16,
        num_inference_steps=3,
    )


def test_given_pictures_are_noised(model):
    Path("photos").mkdir()
    for i in range(2):
        Image.new("RGB", (40, 20 + i), "red").save(f"photos/{i}.png")
    ok("erase", "a cat", "--images", "photos", *SHORT, "--model", model, "--out", "o")
    assert config_of("o").x_t_source == "images"


def test_what_is_transparent_in_a_picture_is_white(tmp_path):
    Image.new("RGBA", (8, 8), (255, 0, 0, 0)).save("clear.png")
    shown = Image.new("P", (8, 8), 0)
    shown.putpalette([0, 0, 0, 255, 255, 255])
    shown.save("clear of palette.png", transparency=0)
    Image.new("RGB", (8, 8), (255, 0, 0)).save("red.png")
    files = [tmp_path / name for name in ("clear.png", "clear of palette.png", "red.png")]
    clear, palette, red = read_pictures(files, 4)
    assert clear.eq(1).all() and palette.eq(1).all()
    assert red[0].eq(1).all() and red[1:].eq(0).all()


def test_a_picture_too_large_to_read_is_refused(tmp_path, monkeypatch):
    Image.new("1", (100, 100)).save("large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match="large.png"):
        read_pictures([tmp_path / "large.png"], 4)


def test_nothing_between_two_separators_is_no_concept(model):
    given = ["erase", "--prompt", "a cat,, a dog, ", "--seperator", ",", "--erase-from", "  "]
    ok(*given, *SHORT, "--model", model, "--out", "o")
    assert [(t.concept, t.erase_from) for t in config_of("o").concepts] == [("a cat", None), ("a dog", None)]


def test_words_never_seen_are_named(model):
    made = run("erase", "a zeppelin", *SHORT, "--model", model)
    assert made.exit_code == 0 and "zeppelin" in made.stderr


# --- a run that does not end well -------------------------------------------------------------


def interrupting(at: int, times: int = 1):
    """`erase`, but Ctrl-C is pressed once the update `at` has been handed over."""
    real = erasing.erase

    def stub(*arguments, **options):
        for step in real(*arguments, **options):
            yield step
            if step.iteration == at:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

    return stub


def test_ctrl_c_finishes_the_update_and_keeps_everything(model, monkeypatch):
    monkeypatch.setattr(erasing, "erase", interrupting(at=1))
    made = run("erase", "a cat", *SHORT, "--model", model, "--json")
    assert made.exit_code == 130
    told = json.loads(made.stdout)
    assert told["ending"] == "stopped" and told["updates"] == 2 and set(told["files"]) == STOPPED
    saved = Erasure.load(Path(told["folder"]) / "erasure.safetensors")
    assert saved.provenance["iterations_done"] == 2


@pytest.fixture
def heard():
    """Ctrl-C reaches the tests; in the background, as `make test &`, a shell turns it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_quits_at_once(model, monkeypatch, heard):
    monkeypatch.setattr(erasing, "erase", interrupting(at=1, times=2))
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", "o")
    assert made.exit_code == 130 and "nothing is kept" in made.stderr
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_there_is_anything_to_keep(model, monkeypatch):
    def stub(*_, **__):
        signal.raise_signal(signal.SIGINT)
        yield

    monkeypatch.setattr(erasing, "erase", stub)
    made = run("erase", "a cat", *SHORT, "--model", model)
    assert made.exit_code == 130 and "nothing is kept" in made.stderr
    assert not Path("outputs").exists()


def test_ctrl_c_while_the_pictures_are_drawn(model, monkeypatch):
    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(erasing_run.Run, "draw", press)
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", "o")
    assert made.exit_code == 130 and "before_after.png" in made.stderr
    assert {f.name for f in Path("o").iterdir()} == FILES - {"before_after.png"}


def test_a_long_run_saves_on_its_way(model, monkeypatch):
    monkeypatch.setattr(erasing_run, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(erasing_run, "SAVING", float("inf"))
    monkeypatch.setattr(erasing, "erase", interrupting(at=2, times=2))
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", "o")
    assert made.exit_code == 130
    assert Erasure.load("o/erasure.safetensors").provenance["iterations_done"] == 2


@pytest.mark.parametrize("updates", [3, 0, None])
def test_divergence_keeps_the_last_good_state_if_there_is_one(model, erasure, monkeypatch, updates):
    real, good = erasing.erase, Erasure.load(erasure)
    kept = Erasure({}, "") if updates is None else replace(good, provenance={"iterations_done": updates})

    def stub(*arguments, **options):
        yield next(real(*arguments, **options))
        raise DivergenceError("the loss exploded; lower eta", kept)

    monkeypatch.setattr(erasing, "erase", stub)
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", "o", "--json")
    told = json.loads(made.stdout)
    assert made.exit_code == 1 and told["ending"] == "diverged"
    assert told["updates"] == (updates or 0) and bool(told["parameters"]) is bool(updates)
    assert "the loss exploded; lower eta" in made.stderr
    assert ("good state is kept" in made.stderr) is bool(updates)
    assert Path("o/erasure.safetensors").exists() is bool(updates)


def test_after_a_divergence_the_summary_is_that_of_what_is_kept(model, monkeypatch):
    real = erasing.erase

    def stub(model, config, **options):
        for step in real(model, config, **options):
            yield step
            if step.iteration == 2:
                kept = step.erasure
        raise DivergenceError("the loss exploded", kept)

    monkeypatch.setattr(erasing, "erase", stub)
    made = run("erase", "a cat", *SHORT, "--model", model, "--out", "o", "--json")
    assert made.exit_code == 1
    told, rows = json.loads(made.stdout), list(csv.DictReader(open("o/loss.csv")))
    assert len(rows) == 4 and told["updates"] == 2
    assert told["last_loss"] == float(rows[2]["loss"]) != float(rows[3]["loss"])
    assert told["held_out_error"] == float(rows[2]["held_out_error"])
    assert told["seconds"] == float(rows[2]["seconds"])


def test_a_model_that_predicts_no_numbers_is_refused_and_nothing_saved(tiny):
    broken = copy.deepcopy(tiny.unet)
    broken.conv_in.weight.data.fill_(float("nan"))
    tiny.with_unet(broken).to_pipeline().save_pretrained("broken")
    made = run("erase", "a cat", *SHORT, "--model", "broken", "--out", "o")
    assert made.exit_code == 2 and "not finite" in made.stderr
    assert not Path("o").exists()


# --- bad input --------------------------------------------------------------------------------

ERASE = ["erase", "a cat"]
BAD = {
    "at least one concept": ["erase"],
    "17 concepts": ["erase", *map(str, range(17))],
    "'a cat' is named twice": [*ERASE, "a cat"],
    "eta is 99.0": [*ERASE, "--eta", "99"],
    "eta is nan": [*ERASE, "--eta", "nan"],
    "'xatn'": [*ERASE, "--train-method", "xatn"],
    "'fast'": [*ERASE, "--preset", "fast"],
    "x_t_source 'images', preserve": [*ERASE, "--points", "last", "--preserve", "1"],
    "x_t_source 'images' and the argument images": [*ERASE, "--x-t-source", "images"],
    "1 concepts and 2 --weight": [*ERASE, "--weight", "1", "--weight", "2"],
    "image size 17": [*ERASE, "--image-size", "17"],
    "reads 10": ["erase", "a cat " * 9],
    "no pictures": [*ERASE, "--images", "."],
    "--devices is 'gpu'": [*ERASE, "--devices", "gpu"],
    "'abacus'": [*ERASE, "--device", "abacus"],
    "sd.ckpt": [*ERASE, "--ckpt_path", "sd.ckpt"],
    "No such option": [*ERASE, "--foo"],
    "Invalid value for '--iterations'": [*ERASE, "--iterations", "ten"],
    "No such command 'eras'": ["eras"],
    "Missing argument": ["sample"],
    "Invalid value for '--seed'": ["sample", "a cat", "--seed", "-1"],
    "Invalid value for '--guidance'": ["sample", "a cat", "--guidance", "nan"],
    "'lms'": ["sample", "a cat", "--scheduler", "lms"],
    "no.safetensors": ["sample", "a cat", "--erasure", "no.safetensors"],
    "0 erasures but 1 strengths": ["compare", "a cat", "--strength", "1"],
    "'a fish'": ["probe", "a fish"],
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_sentence_and_exit_code_2(model, message):
    arguments = BAD[message]
    takes_model = arguments[0] != "eras" and "--ckpt_path" not in arguments
    made = run(*arguments, *(["--model", model] if takes_model else []))
    assert made.exit_code == 2 and made.stdout == ""
    assert message in made.stderr and made.stderr.startswith("error: ")
    assert made.stderr.count("\n") == 1 and "Traceback" not in made.stderr
    assert list(Path().iterdir()) == []


def test_a_model_that_is_none(tmp_path):
    made = run("info", str(tmp_path))
    assert made.exit_code == 2 and "model_index.json" in made.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["sample", "a cat", "--out", "file/a.png"],
        ["sample", "a cat", "--out", "folder"],
        ["compare", "a cat", "--out", "file/a.png"],
        ["erase", "a cat", "--out", "file/a"],
        ["sweep", "table.csv", "--out", "file/a"],
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(arguments):
    Path("file").touch()
    Path("folder").mkdir()
    Path("table.csv").write_text("concept\na cat\n")
    made = run(*arguments, "--model", "no model")
    assert made.exit_code == 2 and made.stderr.count("\n") == 1
    assert f"{arguments[-1]}" in made.stderr and "cannot be written" in made.stderr


# --- the other commands -----------------------------------------------------------------------


def test_sample_draws_one_picture_or_a_sheet(model, erasure):
    quick = ["--steps", "2", "--model", model]
    assert ok("sample", "a cat", *quick).strip() == "outputs/a-cat.png"
    assert Image.open("outputs/a-cat.png").size == (16, 16)
    assert ok("sample", "a cat", *quick).strip() == "outputs/a-cat-2.png"
    ok("sample", "a cat", "", "--seed", "1", "--seed", "2", *quick, "--out", "sheet.png")
    assert Image.open("sheet.png").width > 64
    edited = ["--erasure", str(erasure), "--strength"]
    for strength in ("0", "5"):
        ok("sample", "a cat", *quick, *edited, strength, "--out", f"{strength}.png")
    base = Image.open("outputs/a-cat.png").tobytes()
    assert Image.open("0.png").tobytes() == base != Image.open("5.png").tobytes()


def test_sample_warns_of_words_never_seen(model):
    made = run("sample", "a zeppelin", "--steps", "1", "--model", model)
    assert made.exit_code == 0
    assert re.fullmatch(r"warning: .*zeppelin\n", made.stderr)


def test_compare_sets_the_concept_against_its_negative_prompt(model, erasure):
    told = json.loads(
        ok(
            "compare",
            "a cat",
            "a dog",
            "--erasure",
            str(erasure),
            "--seed",
            "3",
            "--steps",
            "2",
            "--model",
            model,
            "--json",
        )
    )
    assert told["negative_prompt"] == "a cat" and told["seeds"] == [3]
    assert set(told["change_from_base"]) == {"erased", "negative prompt"}
    assert all(len(v) == 2 and min(v) > 0 for v in told["change_from_base"].values())
    assert Image.open(told["sheet"]).width > 100
    out = ok(
        "compare",
        "a cat",
        "--erasure",
        str(erasure),
        "--negative-prompt",
        "",
        "--steps",
        "1",
        "--model",
        model,
        "--out",
        "c.png",
    )
    assert out.strip() == "c.png"


def test_probe_scores_before_and_after(model, erasure):
    arguments = ["probe", "cat", "--pictures", "1", "--steps", "1", "--model", model]
    told = json.loads(ok(*arguments, "--erasure", str(erasure), "--json"))
    assert told["concept"] == "a cat" and {"base", "erased"} <= set(told)
    groups = ["concept", "neighbours", "unrelated", "empty prompt"]
    assert [s["group"] for s in told["erased"]] == groups
    table = ok(*arguments)
    assert "erased" not in table and all(group in table for group in groups)


def test_evaluate_counts_before_and_after(model, erasure):
    arguments = ["evaluate", str(erasure), "--pictures", "4", "--steps", "2", "--model", model]
    (told,) = json.loads(ok(*arguments, "--json"))["evaluations"]
    assert told["concept"] == "a cat" and told["file"] == str(erasure)
    marks = told["marks"]["clip"]
    assert set(marks) == {"concept", "neighbours", "others"}
    assert set(told["distances"]) == {*marks, "empty prompt"}
    concept = marks["concept"]
    assert sum(concept[k] for k in ("kept", "lost", "gained", "never")) == 4
    assert concept["verdict"] in ("gone", "not gone", "inconclusive")
    table = ok(*arguments, "--concept", "dog")
    assert "a dog  (" in table and "by clip" in table and "empty prompt" in table


def test_evaluate_needs_to_know_what_was_erased(model, erasure):
    ok("export", "official", str(erasure), "esd.safetensors", "--model", model)
    made = run("evaluate", "esd.safetensors", "--model", model)
    assert made.exit_code == 2 and "give --concept" in made.stderr
    assert "a dog" in ok(
        "evaluate", "esd.safetensors", "--concept", "dog", "--pictures", "4", "--steps", "2", "--model", model
    )


def test_evaluate_by_labels_where_there_is_no_vocabulary(tiny, model, erasure):
    tiny.to_pipeline().save_pretrained("bare")
    arguments = ["evaluate", str(erasure), "--pictures", "4", "--steps", "2", "--model", "bare"]
    made = run(*arguments)
    assert made.exit_code == 2 and "--label" in made.stderr and "--clip" in made.stderr
    arguments += ["--clip", f"{model}/clip", "--label", "a cat"]
    made = run(*arguments)
    assert made.exit_code == 2 and "two or more" in made.stderr
    (told,) = json.loads(ok(*arguments, "--label", "An apple", "--json"))["evaluations"]
    assert told["concept"] == "a cat" and set(told["marks"]["clip"]) == {"concept", "others"}


def test_info_describes_a_model(model, tiny):
    told = json.loads(ok("info", model, "--json"))
    assert told["fingerprint"] == tiny.fingerprint and told["prediction_type"] == "epsilon"
    assert told["train_methods"]["full"] == told["parameters"]["unet"]
    assert 0 < told["train_methods"]["esd-x"] < told["train_methods"]["full"]
    assert told["objects"] == list(OBJECTS) and told["words"] == sorted(WORDS)
    assert ", ".join(OBJECTS) in ok("info", model)


def test_info_describes_an_erasure_without_its_model(erasure):
    told = json.loads(ok("info", str(erasure), "--json"))
    assert told["format"] == "esd-lab/1" and told["bytes"] == erasure.stat().st_size
    assert told["provenance"]["iterations_done"] == 3
    text = ok("info", str(erasure))
    assert f"tensors: {len(told['tensors'])}" in text and "- {concept: a cat," in text


def test_a_lora_exported_for_others_is_the_same_to_every_command(model):
    ok("erase", "a cat", "--model", model, "--preset", "edit", "--out", "out")
    ours, theirs = (
        "out/erasure.safetensors",
        ok("export", "kohya", "out/erasure.safetensors", "k.safetensors"),
    )
    told, again = (json.loads(ok("info", file.strip(), "--json")) for file in (ours, theirs))
    assert all(told[fact] == again[fact] for fact in ("parameters", "provenance", "base"))
    ok("compare", "a cat", "--erasure", "k.safetensors", "--model", model, "--steps", "2", "--out", "a.png")
    ok("compare", "a cat", "--erasure", ours, "--model", model, "--steps", "2", "--out", "b.png")
    one, other = (np.asarray(Image.open(f), float) for f in ("a.png", "b.png"))
    assert np.abs(one - other).max() <= 1


def test_info_reads_whatever_a_file_says_of_itself(tmp_path):
    odd = {"numbers": [1, [2], None, {"a": 3}], "nothing": [], "deep": {"b": [{}]}}
    Erasure({"a": torch.zeros(1)}, "", odd).save("odd.safetensors")
    assert yaml.safe_load(ok("info", "odd.safetensors"))["provenance"] == odd


def test_export_crosses_over_and_back(model, erasure):
    official = ok("export", "official", str(erasure), "esd.safetensors", "--model", model).strip()
    told = json.loads(ok("info", official, "--json"))
    assert "none recorded" in told["format"] and "provenance" not in told
    folder = ok("export", "diffusers", official, "pipeline", "--model", model).strip()
    changed = json.loads(ok("info", folder, "--json"))["fingerprint"]
    assert changed != json.loads(ok("info", model, "--json"))["fingerprint"]
    lora = load_file(ok("export", "kohya", str(erasure), "kohya.safetensors").strip())
    assert all(name.startswith("lora_unet_") for name in lora)
    for again in (
        ["official", official, official],
        ["kohya", official, "none.safetensors"],
        ["diffusers", official, folder],
    ):
        assert run("export", *again).exit_code == 2


# --- the real thing ---------------------------------------------------------------------------


def test_the_process_itself_survives_ctrl_c(model, tmp_path):
    command = [
        sys.executable,
        "-m",
        "esd_core",
        "erase",
        "a cat",
        *SHORT,
        "--iterations",
        "90000",
        "--model",
        model,
        "--out",
        str(tmp_path / "o"),
        "--json",
    ]
    root = Path(main.__file__).parents[2]
    process = subprocess.Popen(
        command,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 250
    while not (tmp_path / "o" / "config.json").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 130 and "Traceback" not in err
    assert json.loads(out)["ending"] == "stopped"
    assert {f.name for f in (tmp_path / "o").iterdir()} == STOPPED
