"""Choosing a concept by its picture, and the lines that explain methods and presets."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from esd_core import PRESETS, TRAIN_METHODS, DiffusionModel
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import CONCEPTS
from tests.conftest import WORDS
from ui.erase import fields, picker, pictures
from ui.server import stream


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


def test_thumbnails_come_in_batches_and_are_drawn_once(
    model: DiffusionModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(picker, "BATCH", 2)
    thumbnails, objects = picker.Thumbnails(model), model.vocabulary.of_kind("object")
    moments = list(thumbnails.of(objects))
    first = [shown for shown in moments if shown is not stream.SKIP]
    assert [len(shown) for shown in first] == [2, 3]
    assert len(moments) == len(first) + 2 * pictures.STEPS  # others compute in between
    assert [name for _, name in first[-1]] == ["cat", "dog", "rocket"]
    assert list(thumbnails.of(objects)) == first  # nothing is drawn again
    assert Image.open(first[-1][0][0]).size == (16, 16)


def test_every_method_and_preset_says_why(model: DiffusionModel):
    assert set(fields.REASONS) == set(TRAIN_METHODS) and set(fields.PRESET_LINES) == set(PRESETS)
    assert "The usual choice" in fields.methods(model)["esd-lora"]
