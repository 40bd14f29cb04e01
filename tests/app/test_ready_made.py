"""The ready-made erasures: how they are made, that those which ship fit, and Compare's list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from esd_core import DiffusionModel, Erasure, card, erase, preset
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import CONCEPTS, cache, erased  # noqa: F401
from tests.conftest import WORDS
from tools import ready_made
from ui.compare import erasure_choice
from ui.server import stream
from ui.shared import erasure_list


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


@pytest.fixture(scope="module")
def made(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("erasures")
    (folder / "old.safetensors").write_bytes(b"of a former run")
    return ready_made.write(model, ["cat", "noto style"], folder)


def test_one_small_file_per_concept_and_nothing_else(made: list[Path]):
    assert [path.name for path in made] == ["cat.safetensors", "noto-style.safetensors"]
    assert sorted(made[0].parent.iterdir()) == sorted(made)


def test_they_are_the_same_every_time(model: DiffusionModel, made: list[Path], tmp_path: Path):
    first, again = (Erasure.load(paths[0]) for paths in (made, ready_made.write(model, ["cat"], tmp_path)))
    # (The bytes may differ: safetensors writes its metadata in any order.)
    assert (again.hash, again.provenance) == (first.hash, first.provenance)


def test_a_file_is_the_run_it_records(model: DiffusionModel, made: list[Path]):
    kept = Erasure.load(made[0])
    config = card.repeatable(kept)
    assert config == preset("live", "a cat")
    *_, last = erase(model, config)
    assert last.erasure.hash == kept.hash and "seconds" not in kept.provenance


def test_a_concept_that_is_not_there_is_refused(model: DiffusionModel, tmp_path: Path):
    with pytest.raises(ValueError, match="zeppelin"):
        ready_made.write(model, ["zeppelin"], tmp_path)


def test_those_that_ship_belong_to_the_weights_that_ship_and_are_small(emoji: DiffusionModel):
    paths = sorted(erasure_list.READY_MADE.glob("*.safetensors"))
    again = "the weights have changed: run python -m tools.ready_made"
    fingerprint = emoji.fingerprint
    assert paths and sum(path.stat().st_size for path in paths) < 2**20
    for path in paths:
        assert Erasure.load(path).base == fingerprint, again


# --- Compare's list


def test_compare_starts_with_a_ready_made_erasure(model: DiffusionModel, made: list[Path]):
    ready, refusals = erasure_list.ready_made(model, made[0].parent)
    assert not refusals and [kept.key for kept in ready] == ["cat", "noto-style"]
    owned, erasure, chosen = erasure_choice.offer(ready, (), None)
    assert owned is stream.SKIP and erasure is ready[0].erasure and chosen.value == "cat"
    assert erasure_list.choose(ready, (), "noto-style") is ready[1].erasure


def test_the_visitors_own_comes_before_it(model: DiffusionModel, made: list[Path]):
    ready, _ = erasure_list.ready_made(model, made[0].parent)
    own = erased(model, iterations=1)
    owned, erasure, chosen = erasure_choice.offer(ready, (), own)
    assert erasure is stream.SKIP and [kept.erasure for kept in owned] == [own]
    assert chosen.value == owned[0].key and len(chosen.choices) == 3


def test_the_list_names_no_erasure_but_the_one_in_use(model: DiffusionModel, made: list[Path]):
    ready, _ = erasure_list.ready_made(model, made[0].parent)
    assert erasure_choice.name(ready, (), ready[1].erasure).value == "noto-style"
    assert erasure_choice.name(ready, (), erased(model, iterations=1)).value is None


def test_without_any_the_list_is_not_shown():
    owned, erasure, chosen = erasure_choice.offer((), (), None)
    assert owned is stream.SKIP and erasure is stream.SKIP and not chosen.visible
