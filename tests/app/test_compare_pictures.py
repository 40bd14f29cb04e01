"""Compare's slider: any pair of what was drawn, without drawing it again."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from esd_core import DiffusionModel, Erasure
from tests.app.test_app import COMPARE, cache, compared, erased  # noqa: F401
from tests.app.test_scores import model  # noqa: F401
from ui.compare import pictures
from ui.compare.pictures import DrawnPairs
from ui.server import memory

# The fixture comes from the tests of Scores by import.
# ruff: noqa: F811


@pytest.fixture
def cat(model: DiffusionModel) -> Erasure:
    return erased(model, iterations=1)


def pairs(model: DiffusionModel, cat: Erasure, **changes: Any) -> DrawnPairs:
    return compared(model, cat, **{**COMPARE, **changes}).pairs


def test_every_pair_can_be_had_and_is_as_if_drawn_alone(model: DiffusionModel, cat: Erasure):
    drawn = pairs(model, cat)
    assert drawn.labels == ["a cat, seed 1", "a cat, seed 2", "a dog, seed 1", "a dog, seed 2"]
    two, caption = pictures.pick(drawn, "a dog, seed 1")
    assert "“a dog”, seed 1: base left" in caption
    alone = compared(model, cat, **{**COMPARE, "prompt": "a dog", "seeds": "1"})
    for own, expected in zip(two, alone.slider, strict=True):
        assert own.tobytes() == expected.tobytes()
        assert own.info["parameters"].startswith("a dog")
        assert "Seed: 1," in own.info["parameters"]


def test_the_choice_outlives_a_drawing_of_the_same_prompts(model: DiffusionModel, cat: Erasure):
    listed, slider, caption, download = pictures.reveal(pairs(model, cat), "a dog, seed 2")
    assert listed.value == "a dog, seed 2" and listed.visible and "“a dog”, seed 2" in caption
    assert slider.visible and download.visible
    other = pairs(model, cat, prompt="a rocket")
    assert pictures.reveal(other, "a dog, seed 2")[0].value == "a rocket, seed 1"


def test_one_pair_needs_no_list_and_none_nothing(model: DiffusionModel, cat: Erasure):
    assert not pictures.reveal(pairs(model, cat, prompt="a cat", seeds="1"), None)[0].visible
    assert pictures.reveal(None, None) == (gr.skip(),) * 4
    assert pictures.pick(None, "a cat, seed 1") == (gr.skip(), gr.skip())


def test_what_is_kept_counts_as_the_visitors(model: DiffusionModel, cat: Erasure):
    assert memory.tensor_bytes(pairs(model, cat)) == 2 * 4 * 3 * 16 * 16
