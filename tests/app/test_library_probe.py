"""What the Library measures, on the embedded model and a ready-made erasure."""

from __future__ import annotations

import re
from dataclasses import replace

import gradio as gr
import pytest

from esd_core import DiffusionModel, Erasure
from ui.library import probe as probing
from ui.server import stream
from ui.shared import erasure_list


@pytest.fixture(scope="module")
def pizza(emoji: DiffusionModel) -> Erasure:
    ready, _ = erasure_list.ready_made(emoji)
    return erasure_list.find(ready, "pizza").erasure


def test_it_tells_before_from_after_and_others_compute_between_its_steps(
    emoji: DiffusionModel, pizza: Erasure, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(stream, "TICK", 0.0)
    *doing, last = probing.measure(emoji, pizza, "", 1)
    told = [re.search('(base|erased)</p>.* value="([0-9.]+)"', s.status).groups() for s in doing]
    assert len(told) == 2 * probing.GROUPS * (20 + 1)  # every step, and every score
    assert told == sorted(told, key=lambda at: float(at[1])) and told[-1] == ("erased", "1.000")
    assert last.numbers["concept"] == "a pizza"
    before, after = (last.numbers[state][0] for state in (probing.BASE, probing.ERASED))
    assert before["group"] == "concept" and before["accuracy"] == 1.0
    assert after["presence"] < before["presence"] - 0.1
    assert last.table.count("<tr>") == 1 + probing.GROUPS and "a pizza" in last.table


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(erasure=None), "nothing is erased"),
        (dict(pictures_each=9), "pictures_each is 9"),
        (dict(concept="zeppelin"), "'zeppelin'"),
        (dict(erasure=Erasure({}, "")), "names no concept"),
    ],
)
def test_bad_input_is_refused(emoji: DiffusionModel, pizza: Erasure, wrong: dict, sentence: str):
    with pytest.raises(gr.Error) as refused:
        list(probing.measure(emoji, **{**dict(erasure=pizza, concept="", pictures_each=1), **wrong}))
    assert sentence in refused.value.message


def test_a_model_without_clip_is_refused(tiny: DiffusionModel, pizza: Erasure):
    with pytest.raises(gr.Error, match="CLIP"):
        next(probing.measure(tiny, replace(pizza, base=""), "", 1))
