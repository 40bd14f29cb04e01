"""The probe on the embedded model."""

import pytest

from esd_core import Probe, load_model


@pytest.fixture(scope="module")
def judge(emoji):
    return Probe.of(emoji)


def test_neighbours_of_an_animal_are_animals_first(judge):
    cat = judge.concept("cat")
    near = judge.neighbours(cat, 10)
    assert len(near) == 10 and cat not in near
    assert {c.category for c in near} == {"animals"}


def test_a_style_has_the_other_styles_as_neighbours(judge):
    noto = judge.concept("noto style")
    assert {c.kind for c in judge.neighbours(noto)} == {"style"}


def test_an_unknown_concept_is_named(judge):
    with pytest.raises(ValueError, match="zeppelin"):
        judge.concept("zeppelin")


def test_clip_is_loaded_once_for_all_who_ask(judge, monkeypatch):
    monkeypatch.setattr("transformers.CLIPModel.from_pretrained", lambda path: pytest.fail("loaded again"))
    assert Probe.of(load_model("emoji", device="cpu")) is judge
