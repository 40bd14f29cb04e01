"""One rule says what is watched while a concept goes, whoever draws it."""

from pathlib import Path

from esd_core import Erasure, preset
from esd_core.cli import erasing_run
from esd_core.config import Target
from esd_core.study import figures
from esd_core.study.watched_prompts import to_watch


def test_the_command_line_draws_what_the_app_watches(emoji, monkeypatch, tmp_path: Path):
    config, drawn = preset("live", "a cat", train_method="esd-x"), []
    monkeypatch.setattr(erasing_run, "compare", lambda model, unet, prompts, *_, **__: drawn.extend(prompts))
    monkeypatch.setattr(figures, "comparison_sheet", lambda shown: None)
    monkeypatch.setattr(figures, "save_png", lambda picture, path: None)
    erasing_run.Run(emoji, config, tmp_path, erasure=Erasure({}, emoji.fingerprint, {})).draw()
    assert drawn == [w.prompt for w in to_watch(emoji, config.concepts)]
    assert [w.role for w in to_watch(emoji, "a cat")] == ["the concept", "a neighbour", "unrelated"]


def test_concepts_and_contexts_come_in_the_order_of_the_run_and_once(emoji):
    run = [Target("a cat", "a sofa"), Target("a dog", "a sofa"), Target("a cow"), Target("a pig")]
    assert [w.prompt for w in to_watch(emoji, run)][:5] == ["a cat", "a sofa", "a dog", "a cow", "a pig"]
    few = to_watch(emoji, run, 2)
    assert [w.prompt for w in few][:3] == ["a cat", "a sofa", "a dog"] and len(few) == 5
    assert not {w.prompt for w in few[3:]} & {"a cow", "a pig"}  # no control is erased


def test_a_style_is_watched_on_one_and_the_same_thing(emoji):
    style, neighbour, stranger = (w.prompt for w in to_watch(emoji, "noto style"))
    assert style == "a house in noto style" and neighbour.startswith("a house in ")
    assert stranger == "a rocket"
