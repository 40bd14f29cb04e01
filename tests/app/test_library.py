"""The Library's callbacks as plain functions, then through the served app."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

import app
from esd_core import DiffusionModel, Erasure, combine
from esd_core.exchange import png_parameters
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import COMPARE, CONCEPTS, cache, compared, erased, fields, last  # noqa: F401
from tests.conftest import WORDS
from ui.compare import grid
from ui.compare import tab as compare_tab
from ui.erase import tab as erase_tab
from ui.library import tab as library_tab
from ui.library.tab import RestoredTab
from ui.server import stream
from ui.shared import erasure_list
from ui.shared.erasure_list import ErasureList

ERASE, COMPARED = tuple(fields()), tuple(COMPARE)


def restore(
    model: DiffusionModel, owned: ErasureList, path: str, compared: tuple[str, ...] = COMPARED
) -> tuple:
    """What a picture puts on the page, where the tabs have these fields."""
    tabs = (
        RestoredTab("Erase", dict.fromkeys(ERASE), app.recall_run),
        RestoredTab("Compare", dict.fromkeys(compared), compare_tab.recall),
    )
    return library_tab.restore(model, (), tabs, owned, path)


@pytest.fixture(scope="module")
def model(tiny: DiffusionModel) -> DiffusionModel:
    return replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))


@pytest.fixture
def cat(model: DiffusionModel) -> Erasure:
    return erased(model, iterations=1)


def labels(owned: ErasureList) -> list[str]:
    return [label for label, _ in erasure_list.choices(owned)]


# --- the shelf


def test_an_erasure_is_kept_once(cat: Erasure):
    owned = erasure_list.keep(erasure_list.keep((), cat), cat)
    assert labels(owned) == ["a cat (esd-x, 1 update, this session)"]
    assert erasure_list.keep(owned, None) == owned


def test_equal_labels_are_numbered(cat: Erasure):
    owned = erasure_list.keep(erasure_list.keep((), cat), replace(cat))
    assert [label[-5:] == "no. 2" for label in labels(owned)] == [False, True]


def test_the_oldest_make_room_and_their_files_go(cat: Erasure):
    owned = erasure_list.keep((), cat)
    first = owned[0]
    files = first.files()
    for _ in range(erasure_list.LONGEST):
        owned = erasure_list.keep(owned, replace(cat))
    assert len(owned) == erasure_list.LONGEST and first not in owned
    assert not any(Path(file).exists() for file in files)


def test_large_erasures_are_fewer_but_the_latest_is_kept(monkeypatch, cat: Erasure):
    size = sum(4 * t.numel() for t in cat.tensors.values())
    monkeypatch.setattr(erasure_list, "MEMORY", 2 * size)
    owned: ErasureList = ()
    for _ in range(4):
        owned = erasure_list.keep(owned, replace(cat))
    assert len(owned) == 2
    monkeypatch.setattr(erasure_list, "MEMORY", 1)
    assert len(erasure_list.keep(owned, cat)) == 1


# --- the tab


def test_the_files_are_the_erasure_and_its_card(cat: Erasure):
    owned = erasure_list.keep((), cat)
    shown = library_tab.show((), owned, cat)
    file, text, data = (part.value["path"] for part in (shown.file, shown.markdown, shown.json))
    assert Erasure.load(file).hash == cat.hash
    assert Path(text).read_text().startswith("# Erased: a cat")
    assert json.loads(Path(data).read_text())["hash"] == cat.hash
    assert "1 of 1, in" in shown.table and "this session" in shown.table
    assert shown.command.startswith("python -m esd_core erase") and "preset(" in shown.python


def test_the_tab_lists_what_the_session_made_and_says_which_is_in_use(cat: Erasure):
    owned, *parts = library_tab.refresh((), (), cat)
    shown = library_tab.LibraryView(*parts)
    assert shown.chosen.value == owned[0].key and "In use: “a cat”" in shown.status
    nothing = library_tab.show((), (), None)
    assert "Nothing here yet" in nothing.status and nothing.table == ""


def test_choosing_changes_the_erasure_in_use(cat: Erasure):
    other = replace(cat)
    owned = erasure_list.keep(erasure_list.keep((), cat), other)
    assert erasure_list.choose((), owned, owned[1].key) is other
    with pytest.raises(gr.Error, match="choose"):
        erasure_list.choose((), owned, "gone")


def test_a_file_from_disk_is_used(model: DiffusionModel, cat: Erasure, tmp_path: Path):
    owned, read, _ = library_tab.open_file(model, (), str(cat.save(tmp_path / "a.safetensors")))
    assert read.hash == cat.hash and labels(owned) == ["a cat (esd-x, 1 update, a file)"]
    with pytest.raises(gr.Error, match=r"no \.safetensors file"):
        library_tab.open_file(model, (), str(tmp_path / "a.ckpt"))


def test_what_is_refused_tells_no_folder_of_the_server(model: DiffusionModel, cat: Erasure, tmp_path: Path):
    folder = tmp_path / "models" / "ours"
    folder.mkdir(parents=True)
    served = replace(model, name=str(folder))
    for strange in (replace(cat, base="0" * 12), replace(cat, tensors={"w": torch.zeros(1)})):
        with pytest.raises(gr.Error) as refused:
            library_tab.open_file(served, (), str(strange.save(tmp_path / "strange.safetensors")))
        assert str(tmp_path) not in refused.value.message


def test_adding_two_gives_their_sum(model: DiffusionModel, cat: Erasure):
    dog = erased(model, concept="dog", iterations=1)
    owned = erasure_list.keep(erasure_list.keep((), cat), dog)
    owned, both = library_tab.add(model, (), owned, cat, 0.5, owned[1].key, -1.0)
    expected = dict(combine(model, [cat, dog], [0.5, -1.0]).named_parameters())
    assert all(torch.equal(t, expected[n]) for n, t in both.tensors.items())
    assert labels(owned)[-1] == "a cat, a dog (a sum)"
    shown = library_tab.show((), owned, both)
    assert "a dog at strength -1" in shown.table
    assert shown.command == library_tab.NOT_REPEATABLE
    with pytest.raises(gr.Error, match="first"):
        library_tab.add(model, (), owned, None, 1.0, owned[0].key, 1.0)


def test_a_strangers_text_is_escaped(model: DiffusionModel, cat: Erasure):
    record = {"model": "<b>x</b>", "versions": {"<i>": "y"}}
    strange = replace(cat, provenance=record)
    shown = library_tab.show((), erasure_list.keep((), strange), strange)
    assert "<b>" not in shown.table and "<i>" not in shown.table and "&lt;b&gt;" in shown.table


# --- settings from a picture


def fields_of(restored: tuple) -> tuple[dict, dict]:
    """What `restore` puts into the fields of Erase and of Compare."""
    return dict(zip(ERASE, restored[2:], strict=False)), dict(
        zip(COMPARED, restored[2 + len(ERASE) :], strict=True)
    )


def test_a_sheet_gives_its_settings_and_they_give_the_same_sheet(model: DiffusionModel):
    first = erased(model, iterations=2, eta=0.5, seed=9)
    wanted = {**COMPARE, "prompt": 'a cat\n""', "strength": 0.7, "scheduler": "euler"}
    sheet = Path(compared(model, first, **wanted).download)
    restored = restore(model, (), str(sheet))
    assert "press Erase" in restored[0] and restored[1] is stream.SKIP
    for_erase, for_compare = fields_of(restored)
    assert for_erase == fields(concept="a cat", iterations=2, eta=0.5, seed=9)
    again = last(erase_tab.erase(model, **for_erase), "erasure")
    assert again is not first
    assert Path(compared(model, again, **for_compare).download).read_bytes() == (sheet.read_bytes())


def test_a_single_picture_gives_its_settings_too(model: DiffusionModel, cat: Erasure, tmp_path):
    table = compared(model, cat, **COMPARE).table
    picture = r'src="data:image/png;base64,([^"]+)" alt="a dog, seed 2, erased at strength 1"'
    found = re.search(picture, table)
    (tmp_path / "saved.png").write_bytes(base64.b64decode(found[1]))
    owned = erasure_list.keep((), cat)
    restored = restore(model, owned, str(tmp_path / "saved.png"))
    assert restored[1] is cat and "is in use" in restored[0]
    assert fields_of(restored)[1] == COMPARE
    assert compared(model, cat, **fields_of(restored)[1]).table == table


def test_a_grid_gives_its_knobs_and_they_give_the_same_grid(model: DiffusionModel, cat: Erasure):
    fixed = {"strength": 0.5, "guidance_scale": 3, "steps": 2, "scheduler": "euler", "seed": 4}
    knobs = dict(across="guidance scale", columns="1, 2.5", down="prompt", rows='a cat; ""')
    drawn = list(grid.draw(model, cat, prompt="a dog", **fixed, **knobs))[-1]
    owned = erasure_list.keep((), cat)
    names = (*COMPARED, *knobs)
    status, used, *restored = restore(model, owned, drawn.download, names)
    assert used is cat and "Grid" in status
    found = dict(zip(names, restored[len(ERASE) :], strict=True))
    assert found["prompt"] == "a dog" and found["strength"] == 0.5
    steps, seed = found.pop("num_inference_steps"), found.pop("seeds")
    again = list(grid.draw(model, cat, steps=steps, seed=seed, **found))[-1]
    assert Path(again.download).read_bytes() == Path(drawn.download).read_bytes()


def test_a_grid_over_a_strange_knob_is_refused(model: DiffusionModel, tmp_path: Path):
    made = png_parameters.of(model, None, ("a cat",), (1,), axes=(("colour", "red"), ("seed", "1")))
    png_parameters.save(png_parameters.stamp(Image.new("RGB", (2, 2)), made), tmp_path / "a.png")
    with pytest.raises(gr.Error, match="'colour'"):
        restore(model, (), str(tmp_path / "a.png"))


def test_a_picture_without_settings_is_refused(model: DiffusionModel, tmp_path: Path):
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(gr.Error, match="carries no parameters"):
        restore(model, (), str(tmp_path / "a.png"))


# --- ready-made erasures


def test_ready_made_erasures_are_listed_and_others_weights_are_left_out(
    model: DiffusionModel, cat: Erasure, tmp_path: Path
):
    cat.save(tmp_path / "cat.safetensors")
    replace(cat, base="another").save(tmp_path / "dog.safetensors")
    ready, refusals = erasure_list.ready_made(model, tmp_path)
    assert labels(ready) == ["a cat (ready-made)"]
    assert len(refusals) == 1 and "dog.safetensors" in refusals[0]
    assert erasure_list.ready_made(model, tmp_path / "nothing") == ((), [])


# --- the served app


@pytest.fixture
def url(model: DiffusionModel) -> Iterator[str]:
    demo = app.build_demo(model)
    _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield address
    demo.close()


def test_a_client_opens_its_own_file_and_nobody_elses_page_changes(url: str, cat: Erasure, tmp_path: Path):
    ann, bob = Client(url, verbose=False), Client(url, verbose=False)
    path = cat.save(tmp_path / "mine.safetensors")
    ann.predict(handle_file(path), api_name="/open_erasure")
    assert "“a cat” (esd-x, 1 update)" in ann.predict(**COMPARE, api_name="/compare")[0]
    with pytest.raises(AppError, match="nothing is erased"):
        bob.predict(**COMPARE, api_name="/compare")
    endpoints = ann.view_api(return_format="dict")["named_endpoints"]
    assert all(endpoints[name]["description"] for name in ("/open_erasure", "/use_erasure"))
    beyond_the_slider = {**COMPARE, "guidance_scale": 30.0, "prompt": "a cat", "seeds": "4294967295"}
    assert "at strength 1." in ann.predict(**beyond_the_slider, api_name="/compare")[0]
    with pytest.raises(AppError, match="guidance_scale is .*101"):
        ann.predict(**{**COMPARE, "guidance_scale": 101}, api_name="/compare")


def test_what_is_no_erasure_is_refused_by_the_api(url: str, tmp_path: Path):
    ann = Client(url, verbose=False)
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nonsense" * 9)
    with pytest.raises(AppError, match="readable"):
        ann.predict(handle_file(bad), api_name="/open_erasure")
    shutil.copy(bad, tmp_path / "bad.pt")
    with pytest.raises((AppError, ValueError), match="safetensors"):
        ann.predict(handle_file(tmp_path / "bad.pt"), api_name="/open_erasure")
