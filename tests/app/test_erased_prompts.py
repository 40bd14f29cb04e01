"""Compare with an erasure of many concepts, and with one that names none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest

from esd_core import DiffusionModel, EraseConfig, Erasure
from tests.app.test_app import COMPARE, cache, compared, erased  # noqa: F401
from tests.app.test_compare_proof import FIXED
from tests.app.test_scores import model  # noqa: F401
from ui.compare import grid, knobs
from ui.shared import erasure_text

# The fixture comes from the tests of Scores by import.
# ruff: noqa: F811

# Two tokens each, and one for each comma: the tiny tokenizer has room for 10.
MANY = ("a cat", "a dog", "a rocket", "red cat", "blue dog", "red dog")
ADVICE = "does not say what it erases; write prompts of your own"


@pytest.fixture
def of(model: DiffusionModel) -> Callable[..., Erasure]:
    """An erasure that says it erases the given concepts."""
    made = erased(model, iterations=1)

    def labelled(*concepts: str) -> Erasure:
        record = {"config": EraseConfig(concepts).to_dict()} if concepts else {}
        return replace(made, provenance=record)

    return labelled


def test_many_concepts_are_compared_one_by_one(model: DiffusionModel, of: Callable[..., Erasure]):
    wanted = erasure_text.default_prompts(model, of(*MANY), 8)
    assert wanted == [*MANY]  # the neighbour and the stranger are among them
    assert erasure_text.default_prompts(model, of(*MANY), 4) == ["a cat", "a dog", "a rocket"]
    assert erasure_text.default_prompts(model, of("a cat", "red dog"), 1) == ["a cat", "a dog", "a rocket"]
    shown = compared(model, of(*MANY), **{**COMPARE, "prompt": ""})
    assert shown.table.count('<th scope="row">') == 6 * 2
    assert "a cat, a dog, seed" not in shown.table


def test_a_negative_prompt_has_the_concepts_it_has_room_for(
    model: DiffusionModel, of: Callable[..., Erasure]
):
    assert erasure_text.negative_prompt(model, of("a cat", "a dog")) == ("a cat, a dog", "")
    text, says = erasure_text.negative_prompt(model, of(*MANY))
    assert text is not None and MANY[-1] not in text and model.encode([text]) is not None
    kept = text.count(",") + 1
    with pytest.raises(ValueError, match="shorten it"):
        model.encode([", ".join(MANY[: kept + 1])])
    assert f"room for {kept} of the 6 concepts: {text}." in says
    shown = compared(model, of(*MANY), **COMPARE)
    assert f"room for {kept} of the 6" in shown.status
    assert shown.table.count("<img") == 2 * 2 * 3


def test_a_concept_too_long_leaves_the_column_out(model: DiffusionModel, of: Callable[..., Erasure]):
    shown = compared(model, of("a cat " * 9), **COMPARE)
    assert "too long" in shown.status
    assert shown.table.count("<img") == 2 * 2 * 2 and "all 2 columns" in shown.status


def test_a_file_that_names_no_concept_is_compared_on_the_visitors_prompts(
    model: DiffusionModel, of: Callable[..., Erasure]
):
    shown = compared(model, of(), **COMPARE)
    assert "names no concept" in shown.status and "unknown" not in shown.status
    assert shown.table.count("<img") == 2 * 2 * 2 and "negative prompt" not in shown.table
    with pytest.raises(gr.Error, match=ADVICE):
        compared(model, of(), **{**COMPARE, "prompt": " "})


def test_so_is_its_grid(model: DiffusionModel, of: Callable[..., Erasure]):
    fixed: dict[str, Any] = {**FIXED, "prompt": ""}
    axes = dict(across="strength", columns="0, 1", down="seed", rows="1, 2")
    for rows in (axes, {**axes, "down": "prompt", "rows": ""}):
        assert ADVICE in grid.cost(model, of(), **fixed, **rows)
    own = {**axes, "down": "prompt", "rows": "a dog"}
    assert "2 pictures" in grid.cost(model, of(), **fixed, **own)
    many = {**axes, "down": "prompt", "rows": ""}
    assert knobs.plan(model, of(*MANY), **fixed, **many).rows == MANY[:4]
