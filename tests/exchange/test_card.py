"""The run card, and the command line and program that repeat a run: they really do."""

import json
import shlex
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from esd_core import __main__ as main
from esd_core import card
from esd_core.config import EraseConfig, Target, preset
from esd_core.erasing import erase
from esd_core.erasure import Erasure
from esd_core.exchange.card import command_line, python_code
from esd_core.exchange.pipelines import load_model

SHORT = dict(iterations=2, num_inference_steps=2, trajectories=2, batch_size=2)
CONFIGS = {
    "live": preset("live", "a cat", **SHORT, train_method="esd-x"),
    "paper": preset("paper", "a cat", iterations=2, num_inference_steps=3, eta=-0.5),
    "official": preset("official-2025", ["a cat", "a dog"], iterations=1, num_inference_steps=2),
    "context": preset(
        "live", [Target("red", "a red cat", 2.0), Target("a dog")], **SHORT, train_method="esd-x"
    ),
    "quoting": preset("live", '-a\'s "cat" $a', seed=7, train_method="esd-u", **SHORT),
    "held prompts": preset(
        "live", "a cat", preserve_prompts=["a dog", "-a rocket"], **SHORT, train_method="esd-x"
    ),
    "memory": preset(
        "live", "a cat", micro_batch_size=1, gradient_checkpointing=True, **SHORT, train_method="esd-x"
    ),
    "sizes": replace(
        preset("live", "a cat", **SHORT, train_method="esd-x"), image_size=32, learning_rate=1e-5
    ),
}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("model with space")
    tiny.to_pipeline().save_pretrained(path)
    return str(path)


def finish(model, config) -> Erasure:
    *_, step = erase(model, config)
    return step.erasure


@pytest.fixture(scope="module")
def made(tiny) -> Erasure:
    return finish(tiny, CONFIGS["live"])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_command_line_gives_the_same_options(config, folder, tmp_path, two_steps):
    words = shlex.split(command_line(config, folder))
    assert words[:4] == ["python", "-m", "esd_core", "erase"]
    result = CliRunner().invoke(main.app, [*words[3:4], "--out", str(tmp_path / "run"), *words[4:]])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "run" / "config.json").read_text())
    assert EraseConfig.from_dict(written) == config


@pytest.mark.parametrize("name", ["live", "context", "quoting"])
def test_the_program_makes_the_same_erasure(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(python_code(CONFIGS[name], folder), {})  # noqa: S102
    loaded = Erasure.load("erasure.safetensors")
    assert loaded.hash == finish(load_model(folder), CONFIGS[name]).hash
    assert card.config_of(loaded) == CONFIGS[name]


def test_a_default_run_is_a_short_command():
    assert command_line(preset("live", "a cat")) == "python -m esd_core erase 'a cat'"
    assert command_line(preset("paper", "a cat", seed=3)) == (
        "python -m esd_core erase --preset=paper --seed=3 'a cat'"
    )
    other = "python -m esd_core erase --model=folder"  # whose usual preset is another one
    assert command_line(preset("live-sd", "a cat"), "folder") == f"{other} 'a cat'"
    assert command_line(preset("live", "a cat"), "folder") == f"{other} --preset=live 'a cat'"


def test_a_rate_that_another_method_has_by_itself_is_told():
    config = preset("live", "a cat", train_method="esd-u", learning_rate=1.5e-3)
    words = shlex.split(command_line(config))
    assert {"--train-method=esd-u", "--learning-rate=0.0015"} < set(words)


def test_a_stopped_run_is_repeated_up_to_where_it_stopped(tiny):
    config = preset("live", "a cat", **{**SHORT, "iterations": 9}, train_method="esd-x")
    for step in erase(tiny, config):
        if step.iteration == 3:
            stopped = step.erasure
            break
    again = card.repeatable(stopped)
    assert again == replace(config, iterations=3)
    assert finish(tiny, again).hash == stopped.hash


def test_the_card_tells_what_was_done(made, tiny):
    known = json.loads(card.as_json(made))
    assert known["erases"] == ["a cat"] and known["updates"] == 2
    assert known["base"] == tiny.fingerprint and known["hash"] == made.hash
    assert EraseConfig.from_dict(known["config"]) == CONFIGS["live"]
    text = card.markdown(made)
    assert "# Erased: a cat" in text and known["command_line"] in text
    assert "1 in the paper's units (2 for" in text
    assert "| Updates | 2 of 2, in " in text


def test_the_card_of_an_edit_tells_no_options_of_training(tiny):
    listed = dict(card.rows(finish(tiny, preset("edit", "a cat"))))
    assert listed.keys().isdisjoint({"Learning rate", "Examples", "Preserve", "Seed"})
    assert "a LoRA of" in listed["Holds"] and "Trains" in listed


def test_the_card_of_a_sum_names_its_parts(made, tiny):
    both = Erasure.combine(tiny, [made, finish(tiny, CONFIGS["context"])], [1, -0.5])
    assert card.concepts(both) == ("a cat", "red", "a dog")
    assert "red, a dog at strength -0.5" in card.markdown(both)
    assert card.facts(both)["command_line"] is None
    thrice = Erasure.combine(tiny, [both, made], [2, 1])
    assert card.concepts(thrice) == ("a cat", "red", "a dog")
    assert "| a cat at strength 2; red, a dog at strength -1; a cat at strength 1 |" in card.markdown(thrice)


def test_a_part_that_lists_parts_itself_is_told_as_unknown(made):
    """As in files of former versions, and in those of strangers, to any depth."""
    record = {"parts": [{"strength": 1, "provenance": made.provenance}]}
    for _ in range(200):
        record = {"parts": [{"strength": 1, "hash": "x", "provenance": record}]}
    nested = replace(made, provenance=record)
    assert card.concepts(nested) == () and "not recorded at strength 1" in card.markdown(nested)


def test_a_run_from_pictures_is_not_offered_for_repetition(made):
    config = {**CONFIGS["live"].to_dict(), "x_t_source": "images"}
    assert card.repeatable(replace(made, provenance={"config": config})) is None


DEEP: list = []
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"config": 5, "iterations_done": "many", "versions": 3, "parts": 4, "seconds": "x"},
        {"config": {"concepts": "a cat", "eta": 1e9}, "iterations_done": -1, "seconds": 1e300},
        {"model": DEEP, "file_name_says": {"concept": DEEP}, "versions": {"a": DEEP}},
        {"parts": [5, {}, {"strength": 1e400, "provenance": {}}, {"strength": 1, "provenance": 5}]},
    ],
)
def test_a_strange_record_is_told_without_believing_it(record):
    strange = Erasure({"a": torch.zeros(1)}, "", record)
    assert card.concepts(strange) in [(), ("not readable",)]
    assert card.repeatable(strange) is None
    assert json.loads(card.as_json(strange))["tensors"] == 1
    assert "not recorded" in card.markdown(strange) or "not readable" in card.markdown(strange)


def test_markup_in_a_record_stays_text():
    record = {"config": preset("live", "<b>|x", train_method="esd-x").to_dict(), "model": "emoji"}
    assert "| Erases | &lt;b>\\|x |" in card.markdown(Erasure({"a": torch.zeros(1)}, "", record))
