"""A stranger's erasure file that lies in every field of its record: no tab believes it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from PIL import Image

from esd_core import DiffusionModel, EraseConfig, Erasure, Target, erase
from esd_core.exchange import png_parameters
from tests.app.test_app import COMPARE, cache, compared  # noqa: F401
from tests.app.test_attention_tab import ATTENTION
from tests.app.test_scores import SCORES
from ui.attention import tab as attention_tab
from ui.compare import erasure_choice, grid
from ui.compare import tab as compare_tab
from ui.library import tab as library_tab
from ui.scores import tab as scores_tab
from ui.shared import erasure_list, noisy_latent

HOSTILE = '"><img src=x onerror=alert(1)>'
SHORT = '"><img>'  # a concept that the tiny tokenizer has room for
OURS = r'<img (src="data:image/png;base64,|class="esd-sheet" src="data:image/png;base64,)'
RECORD = {
    name: HOSTILE
    for name in ("config", "iterations_done", "seconds", "model", "parts", "closed_form", "format")
} | {
    "versions": {HOSTILE: HOSTILE},
    "file_name_says": {"concept": SHORT, "erase_from": HOSTILE, "train_method": HOSTILE},
}
# All of it is a valid record but for what the concept is called.
CONCEPT: dict[str, Any] = {
    "config": EraseConfig((Target(SHORT, SHORT),)).to_dict(),
    "iterations_done": HOSTILE,
}


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    """Without a list of concepts, so that it takes any words."""
    return replace(tiny, vocabulary=None)


def opened(model: DiffusionModel, record: dict[str, Any], folder: Path) -> Erasure:
    *_, last = erase(model, EraseConfig("a cat", iterations=1, trajectories=2))
    path = replace(last.erasure, provenance=record).save(folder / "hostile.safetensors")
    return library_tab.open_file(model, (), str(path))[1]


def page(model: DiffusionModel, erasure: Erasure) -> list[Any]:
    """Everything that the tabs show of an erasure, as after opening each with nothing touched."""
    owned, *library = library_tab.refresh((), (), erasure)
    knobs = dict(across="strength", columns="0, 1", down="prompt", rows=SHORT)
    fixed = dict(prompt="", seed="4", strength=1.0, guidance_scale=3.0, steps=2, scheduler="ddim")
    return [
        *library,
        *erasure_choice.offer((), owned, erasure),
        *compared(model, erasure, **{**COMPARE, "prompt": SHORT}),
        grid.cost(model, erasure, **fixed, **knobs),
        *list(grid.draw(model, erasure, **fixed, **knobs))[-1],
        *scores_tab.follow(erasure),
        *scores_tab.draw(model, erasure, **{**SCORES, "prompt": SHORT}),
        noisy_latent.concept(erasure),
        *attention_tab.draw(model, erasure, **{**ATTENTION, "prompt": SHORT}),
    ]


@pytest.mark.parametrize("record", [RECORD, CONCEPT], ids=["record", "concept"])
def test_no_tab_shows_a_strangers_markup(model: DiffusionModel, record: dict[str, Any], tmp_path: Path):
    parts = page(model, opened(model, record, tmp_path))
    html = [part for part in parts if isinstance(part, str) and part.startswith("<")]
    assert len(html) >= 10
    for part in html:
        assert "<img" not in re.sub(OURS, "", part)
    assert "&gt;&lt;img" in "".join(html)  # it is shown, as text


def test_nor_does_a_picture_that_was_restored(model: DiffusionModel, tmp_path: Path):
    made = replace(png_parameters.of(model, None, (HOSTILE,), (1,)), base=HOSTILE, model=HOSTILE)
    png_parameters.save(png_parameters.stamp(Image.new("RGB", (2, 2)), made), tmp_path / "a.png")
    restored = library_tab.RestoredTab("Compare", {"prompt": None}, compare_tab.recall)
    said, *_ = library_tab.restore(model, (), [restored], (), str(tmp_path / "a.png"))
    assert "&lt;img" in said and "<img" not in said


@pytest.mark.parametrize(
    "config",
    [
        HOSTILE,
        ["a list"],
        {"concepts": "a cat", "eta": "much"},
        {"concepts": [{"concept": 3}]},
        {"concepts": [["a cat"]]},
        {"concepts": []},
        {"eta": 1.0},
    ],
)
def test_options_that_cannot_be_leave_the_fields_as_they_are(
    model: DiffusionModel, config: Any, tmp_path: Path
):
    strange = opened(model, {"config": config}, tmp_path)
    prompt, eta, _ = scores_tab.follow(strange)
    assert prompt == eta == gr.skip() == noisy_latent.concept(strange)
    assert "unknown" in scores_tab.draw(model, strange, **SCORES).status
    assert "unknown" in attention_tab.draw(model, strange, **ATTENTION).status
    assert erasure_list.keep((), strange, "a file")[0].label == "unknown (a file)"


def test_what_is_on_record_is_told(model: DiffusionModel, tmp_path: Path):
    known = opened(model, {"iterations_done": 1}, tmp_path)
    assert noisy_latent.updates(known) == "1 update" and noisy_latent.updates(None) == "0 updates"
