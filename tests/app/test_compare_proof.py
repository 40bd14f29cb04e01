"""Compare's badges and its grid over two knobs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
import torch
from PIL import Image

from esd_core import DiffusionModel, EraseConfig, Erasure, compare, erase, preset
from esd_core.study import comparison
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import COMPARE, CONCEPTS, compared
from tests.conftest import WORDS
from ui.compare import badges, grid, knobs
from ui.compare import tab as compare_tab
from ui.server import stream
from ui.server.stream import Job, halt

OPTIONS: dict[str, Any] = dict(guidance_scale=3.0, num_inference_steps=3, scheduler="ddim")
FIXED: dict[str, Any] = dict(
    prompt="a dog", seed="4, 5", strength=1.0, guidance_scale=3.0, steps=2, scheduler="ddim"
)


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


@pytest.fixture(scope="module")
def erasure(model: DiffusionModel) -> Erasure:
    *_, last = erase(model, preset("live", "a cat", iterations=2, batch_size=2, train_method="esd-x"))
    return last.erasure


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


# --- badges


def proof(
    model: DiffusionModel, erasure: Erasure, strength: float, claimed: Erasure | None = None
) -> list[tuple[bool, str, str]]:
    """The badges of a comparison that was drawn with one erasure, and maybe claims another."""
    edited = erasure.apply(model, strength)
    made = compare(model, edited, ["a cat", ""], [1, 2], negative_prompt="a cat", **OPTIONS)
    return badges.badges(model, claimed or erasure, strength, edited, made, **OPTIONS)


def test_the_badges_of_an_honest_comparison_hold(model: DiffusionModel, erasure: Erasure):
    found = proof(model, erasure, 1.0)
    assert [holds for holds, *_ in found] == [True] * 3
    claims = [claim for _, claim, _ in found]
    assert claims[0] == "the same noise starts all 3 columns"
    assert claims[2].startswith(f"{len(erasure.tensors)} of ")


def test_at_strength_zero_no_tensor_differs(model: DiffusionModel, erasure: Erasure):
    *_, (holds, claim, _) = proof(model, erasure, 0.0)
    assert holds and claim.startswith("0 of ")


def test_a_claim_that_fails_is_not_hidden(model: DiffusionModel, erasure: Erasure):
    name = next(iter(erasure.tensors))
    broken = {**erasure.tensors, name: torch.full_like(erasure.tensors[name], torch.nan)}
    zero = proof(model, erasure, 1.0, replace(erasure, tensors=broken))[1]
    assert not zero[0] and "Does not hold" in badges.html([zero])


def test_the_noise_is_what_the_columns_really_started_from(
    model: DiffusionModel, erasure: Erasure, monkeypatch: pytest.MonkeyPatch
):
    drawn = comparison.generating

    def unfair(*args: Any, **options: Any) -> Any:
        if "unet" in options:
            options["seeds"] = [seed + 1 for seed in options["seeds"]]
        return drawn(*args, **options)

    monkeypatch.setattr(comparison, "generating", unfair)
    holds, claim, _ = proof(model, erasure, 1.0)[0]
    assert not holds and claim.count(",") == 1  # two hashes


def test_the_badges_stand_on_the_page(model: DiffusionModel, erasure: Erasure):
    shown = compared(model, erasure, **COMPARE)
    assert shown.status.count("<b>Checked</b>") == 3


# --- one comparison after another


def test_a_comparison_that_is_still_drawn_ends_when_the_next_one_begins(
    model: DiffusionModel, erasure: Erasure
):
    latest = compare_tab.Latest()
    older = compare_tab.drawing(model, erasure, latest=latest, **COMPARE)
    assert "Drawing the column base" in [next(older), next(older)][1].status
    *_, newer = compare_tab.redraw(model, erasure, latest=latest, **COMPARE)  # by the dial
    assert len(newer.pairs.labels) == 4 and list(older) == []


# --- the grid


def planned(model: DiffusionModel, erasure: Erasure | None = None, **changes: str) -> knobs.Grid:
    two = dict(across="strength", columns="0, 1", down="prompt", rows="a cat; a dog\na rocket")
    return knobs.plan(model, erasure, **{**FIXED, **two, **changes})


def test_a_cell_is_the_fixed_knobs_and_its_two(model: DiffusionModel):
    made = planned(model)
    assert len(made.cells) == 6 and made.cells[2, 0] == {
        "prompt": "a rocket",
        "strength": 0.0,
        "seed": 4,
        "guidance scale": 3.0,
        "steps": 2,
        "scheduler": "ddim",
    }
    assert made.title == "guidance scale 3, steps 2, scheduler ddim, seed 4"


def test_an_empty_box_of_prompts_watches_what_erase_watched(model: DiffusionModel):
    assert planned(model, rows="").rows == ("a cat", "a dog", "a rocket")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(down="strength"), "choose two different ones"),
        (dict(across="eta"), "unknown knob 'eta'"),
        (dict(columns="0, much"), "strength: 'much' cannot be; use a number from -10 to 10"),
        (dict(columns="nan"), "'nan' cannot be"),
        (dict(across="steps", columns="2.5"), "use a whole number from 1 to 100"),
        (dict(across="scheduler", columns="heun"), "unknown scheduler 'heun'"),
        (dict(columns=" "), "strength: give at least one value"),
        (dict(rows="a zeppelin"), "never seen: zeppelin"),
        (dict(columns=", ".join("1" * 13)), "3 rows of 13 make 39 pictures; ask for 36 or fewer"),
    ],
)
def test_a_bad_grid_is_refused_and_its_cost_says_why(
    model: DiffusionModel, erasure: Erasure, wrong: dict[str, str], sentence: str
):
    knobs = dict(across="strength", columns="0, 1", down="prompt", rows="a cat; a dog\na rocket")
    fields = {**FIXED, **knobs, **wrong}
    with pytest.raises(gr.Error) as refused:
        next(grid.draw(model, erasure, **fields))
    assert sentence in refused.value.message
    assert sentence in grid.cost(model, erasure, **fields).replace("&#x27;", "'")


def test_seeds_and_guidance_go_as_far_as_everywhere(model: DiffusionModel):
    made = planned(model, across="seed", columns="0, 4294967295", down="guidance scale", rows="-100; 100")
    assert (made.columns, made.rows) == ((0, 2**32 - 1), (-100.0, 100.0))


def test_a_knob_fills_in_its_values_but_not_over_what_was_typed(model: DiffusionModel):
    assert knobs.start(model, "steps", knobs.KNOBS["strength"]) == knobs.KNOBS["steps"]
    assert knobs.start(model, "steps", "a cat; a dog") == knobs.KNOBS["steps"]
    for knob, typed in (("prompt", "a cat; a dog"), ("prompt", ""), ("steps", "3, 4")):
        assert knobs.start(model, knob, typed) is stream.SKIP  # as after a list lost the focus


def test_the_cost_is_that_of_the_erasure_in_use(model: DiffusionModel, erasure: Erasure):
    fields = {**FIXED, "across": "strength", "columns": "0, 1", "down": "prompt", "rows": ""}
    record = {"config": EraseConfig(("a cat", "a dog", "red", "blue")).to_dict()}
    several = replace(erasure, provenance=record)
    assert "6 pictures" in grid.cost(model, erasure, **fields)
    assert "10 pictures" in grid.cost(model, several, **fields)


def test_the_cost_counts_pictures(model: DiffusionModel):
    knobs = dict(across="seed", columns="1, 2", down="guidance scale", rows="0, 4")
    assert "4 pictures, about" in grid.cost(model, None, **FIXED, **knobs)


def test_a_grid_is_drawn_and_downloaded(model: DiffusionModel, erasure: Erasure):
    knobs = dict(across="strength", columns="0, 1", down="seed", rows="1, 2")
    shown = list(grid.draw(model, erasure, **FIXED, **knobs))
    assert len(shown) > 4 * 2 and "4 of 4 pictures" in shown[-1].status
    with Image.open(shown[-1].download) as picture:
        assert "Columns: strength 0; 1, Rows: seed 1; 2" in picture.info["parameters"]
        assert picture.width > 2 * 32
    alt = "Grid of 4 pictures, erased: a cat; down: seed 1; 2; across: strength 0; 1; guidance"
    assert f'alt="{alt}' in shown[-1].picture


def test_a_stopped_grid_leaves_what_was_finished(model: DiffusionModel, erasure: Erasure):
    knobs = dict(across="strength", columns="0, 1", down="seed", rows="1")
    job, last = Job(), grid.GridMoment()
    for shown in grid.draw(model, erasure, job, **FIXED, **knobs):
        last = shown
        if "Picture 2 of 2" in str(shown.status):
            halt(job)
    assert last.status is stream.SKIP and "Grid of 2 pictures" in last.picture
    assert Path(last.download).exists()
    job = Job()
    for shown in grid.draw(model, erasure, job, **FIXED, **knobs):
        halt(job)
        assert shown.picture is shown.download is stream.SKIP  # the sheet before it stays


def test_a_grid_needs_an_erasure(model: DiffusionModel):
    knobs = dict(across="strength", columns="0, 1", down="seed", rows="1, 2")
    with pytest.raises(gr.Error, match="run Erase first"):
        next(grid.draw(model, None, **FIXED, **knobs))
