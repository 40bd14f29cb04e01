"""The Attention tab: its callback as a plain function, then through the API."""

from __future__ import annotations

import re
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client

from esd_core import DiffusionModel
from esd_core.study.attention import ALL_LAYERS
from tests.app.test_app import fields as erase_fields
from tests.app.test_scores import model, url, walked  # noqa: F401
from ui.attention import tab as attention_tab
from ui.shared import noisy_latent
from ui.shared.erasure_stages import StagedErasure

# The fixtures come from the tests of Scores by import.
# ruff: noqa: F811

ATTENTION: dict[str, Any] = dict(prompt="cat", seed=1, t=701, layer=ALL_LAYERS)


def test_attention_shows_a_card_per_token_and_model(model: DiffusionModel, walked: StagedErasure):
    shown = attention_tab.draw(model, walked, **ATTENTION)
    tokens = ["[start]", "a", "cat", "[end]", "[padding]"]
    alts = re.findall(r'alt="([^"]+)"', shown.cards)
    assert len(alts) == len(set(alts)) == 2 * (1 + len(tokens))
    assert f"cat, erased model, a cat, seed 1, t 701, {ALL_LAYERS}" in alts
    for shares in shown.shares.values():
        assert [token for token, _ in shares] == tokens
        assert sum(share for _, share in shares) == pytest.approx(1, abs=1e-4)
    assert shown.shares["base"] != shown.shares["erased"]


def test_attention_without_an_erasure_shows_the_base_model(model: DiffusionModel):
    shown = attention_tab.draw(model, None, **ATTENTION)
    assert "only the base model" in shown.status and list(shown.shares) == ["base"]
    coarse = attention_tab.draw(model, None, **{**ATTENTION, "layer": "down 0.0"})
    assert coarse.shares != shown.shares


def test_a_layer_that_is_not_there_is_refused(model: DiffusionModel):
    with pytest.raises(gr.Error) as refused:
        attention_tab.draw(model, None, **{**ATTENTION, "layer": "attic"})
    assert "layer is 'attic'; use one of: mean of all layers" in refused.value.message


def test_the_tab_follows_the_latest_erasure(walked: StagedErasure):
    assert noisy_latent.concept(walked) == "a cat" and noisy_latent.concept(None) == gr.skip()


def test_text_from_a_visitor_is_escaped(tiny: DiffusionModel):
    shown = attention_tab.draw(tiny, None, **{**ATTENTION, "prompt": "<b>x"})
    assert not any("<b>x" in str(part) for part in shown[:2])


def test_the_api_shows_each_visitor_their_own_model(url: str):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    ann.submit(**erase_fields(), api_name="/erase").result(timeout=250)
    anns, bobs = (v.predict(**ATTENTION, api_name="/attention")[-1] for v in (ann, bob))
    assert list(anns) == ["base", "erased"] and list(bobs) == ["base"]
    assert anns["base"] == bobs["base"] != anns["erased"]
    endpoints = ann.view_api(return_format="dict")["named_endpoints"]
    assert "share of the attention" in endpoints["/attention"]["description"]
