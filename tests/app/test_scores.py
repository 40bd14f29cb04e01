"""The Scores tab: its callback as a plain function, then through the API."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError

import app
from esd_core import DiffusionModel, EraseConfig, Target, erase
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import CONCEPTS
from tests.app.test_app import fields as erase_fields
from tests.conftest import WORDS
from ui.scores import tab as scores_tab
from ui.scores.panels import CONTEXT, NULL
from ui.shared import erasure_stages, noisy_latent
from ui.shared.erasure_stages import StagedErasure, StageKeeper

SCORES: dict[str, Any] = dict(prompt="cat", seed=1, t=701, eta=1.0, guidance_scale=4.0, stage=9)


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


@pytest.fixture(scope="module")
def walked(model: DiffusionModel) -> StagedErasure:
    """An erasure of a cat with its stages after 1, 2, 4, 8 of 16 updates."""
    return run(model, EraseConfig("a cat", iterations=16))


def run(model: DiffusionModel, config: EraseConfig) -> StagedErasure:
    kept = StageKeeper()
    for step in erase(model, config):
        kept.note(step)
    return kept.end(step.erasure)


def sources(html: str, alt: str) -> list[str]:
    """The pictures whose alternative text contains `alt`."""
    return re.findall(rf'src="([^"]+)" alt="[^"]*{alt}', html)


# --- Scores


def test_without_an_erasure_the_edited_model_is_the_frozen_one(model: DiffusionModel):
    shown = scores_tab.draw(model, None, **SCORES)
    assert shown.numbers["eps_edited"] == shown.numbers["eps_concept"]
    assert "No erasure yet" in shown.status and shown.numbers["updates"] is None
    assert sources(shown.panels, "eps_edited") == sources(shown.panels, "eps_concept")
    assert ">trained<" not in shown.panels


def test_every_picture_says_prompt_model_and_seed(model: DiffusionModel, walked: StagedErasure):
    shown = scores_tab.draw(model, walked, **SCORES)
    alts = re.findall(r'alt="([^"]+)"', shown.panels)
    assert len(alts) == len(set(alts)) == 16
    assert all("a cat, seed 1, t 701" in alt for alt in alts)
    assert "lean of eps_edited, trained, a cat, seed 1, t 701, after 16 updates" in alts
    assert "implied picture of target, frozen, a cat, seed 1, t 701" in alts


def test_the_stages_lead_from_the_concept_towards_the_target(model: DiffusionModel, walked: StagedErasure):
    count = len(erasure_stages.stages(walked))
    seen = [scores_tab.draw(model, walked, **{**SCORES, "stage": i}).numbers for i in range(count)]
    assert [n["updates"] for n in seen] == [0, 1, 2, 4, 8, 16]
    positions = [n["eps_edited"]["position"] for n in seen]
    assert positions[0] == pytest.approx(1, abs=1e-3) and positions[-1] < positions[0]
    assert scores_tab.draw(model, walked, **SCORES).numbers == seen[-1]  # beyond is the last


def test_eta_moves_the_target_and_guidance_the_guided_pictures(model: DiffusionModel):
    base = scores_tab.draw(model, None, **SCORES)
    strong = scores_tab.draw(model, None, **{**SCORES, "eta": 3.0})
    assert strong.numbers["target"]["position"] == pytest.approx(-3, abs=1e-3)
    assert sources(strong.panels, "picture of eps_null") == sources(base.panels, "picture of eps_null")
    assert sources(strong.panels, "target") != sources(base.panels, "target")
    guided = scores_tab.draw(model, None, **{**SCORES, "guidance_scale": 9.0})
    assert sources(guided.panels, "guided") != sources(base.panels, "guided")
    assert guided.numbers == base.numbers


def test_what_a_concept_is_erased_from_takes_part(model: DiffusionModel):
    kept = run(model, EraseConfig((Target("red", erase_from="a red cat"),), iterations=2))
    shown = scores_tab.draw(model, kept, **{**SCORES, "prompt": "red"})
    assert len(sources(shown.panels, "eps_from")) == 2 and "“a red cat”" in shown.status
    assert shown.numbers["target"]["position"] == pytest.approx(-1, abs=1e-3)
    start = scores_tab.draw(model, kept, **{**SCORES, "prompt": "red", "stage": 0})
    assert start.numbers["eps_edited"]["position"] == pytest.approx(0, abs=1e-3)
    assert f"from {CONTEXT} (0)" in shown.line and "starts at 0" in shown.line
    assert f"away from {CONTEXT}" in shown.table and "same words" not in shown.panels
    plain = scores_tab.draw(model, None, **SCORES)
    assert plain.numbers["eps_edited"]["position"] == pytest.approx(1, abs=1e-3)
    assert f"from {NULL} (0)" in plain.line and "starts at 1" in plain.line
    assert f"away from {NULL}" in plain.table and "same words" in plain.panels


def test_opening_the_tab_follows_the_latest_erasure_once(model: DiffusionModel, walked: StagedErasure):
    prompt, eta, stage, seen = noisy_latent.follow_once(scores_tab.follow, walked, "unseen")
    assert (prompt, eta.value) == ("a cat", 1.0)
    assert (stage.maximum, stage.value, stage.interactive) == (5, 5, True)
    assert "after 1 update, 2 updates, 4 updates, 8 updates, 16 updates" in stage.info
    again = noisy_latent.follow_once(scores_tab.follow, walked, seen)
    assert again == (gr.skip(), gr.skip(), gr.skip(), seen)
    nothing = noisy_latent.follow_once(scores_tab.follow, None, seen)
    assert not nothing[2].interactive and "Erase something" in nothing[2].info


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(prompt="a zeppelin"), "never seen: zeppelin"),
        (dict(prompt=""), "name a concept"),
        (dict(prompt="a cat " * 9), "shorten it"),
        (dict(seed=-1), "seed is -1; use a whole number from 0 to 4294967295"),
        (dict(t=2000), "t is 2000; use a timestep from 1 to 951"),
        (dict(eta=99), "eta is 99; use a number from -20 to 20"),
        (dict(guidance_scale=float("nan")), "guidance_scale is nan"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_the_librarys_words(
    model: DiffusionModel, wrong: dict[str, Any], sentence: str
):
    with pytest.raises(gr.Error) as refused:
        scores_tab.draw(model, None, **{**SCORES, **wrong})
    assert sentence in refused.value.message


def test_text_from_a_visitor_is_escaped(tiny: DiffusionModel):
    shown = scores_tab.draw(tiny, None, **{**SCORES, "prompt": "<b>x"})[:4]
    assert not any("<b>x" in str(part) for part in shown)


# --- the served app


@pytest.fixture(scope="module")
def url(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        demo = app.build_demo(model)
        _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
        yield address
        demo.close()


def test_the_api_shows_each_visitor_their_own_model(url: str):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    ann.submit(**erase_fields(), api_name="/erase").result(timeout=250)
    call: dict[str, Any] = {**SCORES, "stage": erasure_stages.STAGES + 1, "api_name": "/scores"}
    anns, bobs = ann.predict(**call)[-1], bob.predict(**call)[-1]
    assert anns["updates"] == 6 and bobs["updates"] is None
    assert bobs["eps_edited"] == bobs["eps_concept"] != anns["eps_edited"]
    assert bobs["eps_null"] == anns["eps_null"]
    with pytest.raises(AppError, match="never seen: zeppelin"):
        bob.predict(**{**call, "prompt": "a zeppelin"})


def test_nobody_waits_for_another_visitors_training(url: str):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    job = ann.submit(**erase_fields(iterations=100_000), api_name="/erase")
    while not any("of 100000 · " in str(moment[0]) for moment in job.outputs()):
        time.sleep(0.05)
    call: dict[str, Any] = {**SCORES, "stage": erasure_stages.STAGES + 1, "api_name": "/scores"}
    assert bob.submit(**call).result(timeout=250)[-1]["updates"] is None
    assert not job.done()
    job.cancel()


def test_the_api_documents_itself(url: str):
    endpoint = Client(url, verbose=False).view_api(return_format="dict")["named_endpoints"]["/scores"]
    assert "eps_concept - eps_null" in endpoint["description"]
    assert {p["parameter_name"] for p in endpoint["parameters"]} == set(SCORES)
