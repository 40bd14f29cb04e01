"""Other people's formats cross both ways; a file that does not fit is refused."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from esd_core import denoise, erase, formats, preset
from esd_core.erasure import Erasure
from esd_core.models import load_model

CONFIG = preset("live", "a cat", iterations=1, trajectories=1, num_inference_steps=2)


@pytest.fixture(scope="module")
def erasure(tiny) -> Erasure:
    *_, last = erase(tiny, CONFIG)
    return last.erasure


@pytest.fixture
def official(erasure, tmp_path):
    return formats.write_official(erasure, tmp_path / "esd-Van_Gogh-from-a_cat-esdx.safetensors")


# --- the authors' 2025 files ------------------------------------------------------------------


def test_an_official_file_holds_the_tensors_and_nothing_else(tiny, erasure, official):
    tensors = load_file(official)
    assert tensors.keys() == erasure.tensors.keys()
    unknown = tiny.with_unet(erasure.apply(tiny)).unet.load_state_dict(tensors, strict=False)
    assert unknown.unexpected_keys == []
    assert b"provenance" not in official.read_bytes()[:4096]


def test_what_is_read_back_is_the_same_edit_of_unknown_origin(tiny, erasure, official):
    back = formats.read_official(official, tiny)
    assert all(torch.equal(back.tensors[n], t) for n, t in erasure.tensors.items())
    assert back.base == "" and "not recorded" in back.provenance["model"]
    assert back.provenance["file_name_says"] == {
        "concept": "Van Gogh",
        "erase_from": "a cat",
        "train_method": "esdx",
    }


def test_a_file_of_another_name_says_nothing(tiny, erasure, tmp_path):
    path = formats.write_official(erasure, tmp_path / "mine.safetensors")
    assert "file_name_says" not in formats.read_official(path, tiny).provenance


def test_a_file_of_another_model_is_refused(tiny, tmp_path):
    stranger = Erasure({"conv_nowhere.weight": torch.zeros(2)}, "")
    path = formats.write_official(stranger, tmp_path / "esd.safetensors")
    with pytest.raises(ValueError, match="conv_nowhere"):
        formats.read_official(path, tiny)


def test_a_pickle_is_never_opened(tiny, tmp_path):
    path = tmp_path / "esd.safetensors"
    torch.save({"conv_in.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        formats.read_official(path, tiny)


def test_an_official_file_overwrites_nothing(erasure, official, tmp_path):
    with pytest.raises(ValueError, match="exists"):
        formats.write_official(erasure, official)
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        formats.write_official(erasure, tmp_path / "esd.pt")


def test_load_erasure_takes_both_kinds(tiny, tiny_v, erasure, official, tmp_path):
    ours = erasure.save(tmp_path / "ours.safetensors")
    assert formats.load_erasure(ours, tiny).base == tiny.fingerprint
    assert formats.load_erasure(official, tiny).base == ""
    other = Erasure(erasure.tensors, "0" * 12).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="made for another model"):
        formats.load_erasure(other, tiny)


# --- diffusers folders ------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_a_diffusers_folder_loads_without_us(tiny, erasure, tmp_path, strength):
    folder = formats.write_diffusers(tiny, erasure, tmp_path / "new" / "pipeline", strength)
    unet = StableDiffusionPipeline.from_pretrained(folder).unet
    x_t, t = torch.ones(1, 4, 8, 8), torch.tensor(500)
    for prompt in ("a cat", ""):
        embeds = tiny.encode([prompt])
        mine = denoise.predict(erasure.apply(tiny, strength), x_t, t, embeds)
        assert torch.equal(denoise.predict(unet, x_t, t, embeds), mine)
    assert load_model(str(folder)).image_size == tiny.image_size
    origin = json.loads((folder / "erasure.json").read_text())
    assert origin["strength"] == strength
    assert origin["provenance"]["config"]["concepts"][0]["concept"] == "a cat"


def test_a_folder_with_anything_in_it_is_refused(tiny, erasure, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "note"):
        with pytest.raises(ValueError, match="not an empty folder"):
            formats.write_diffusers(tiny, erasure, taken)
    (tmp_path / "empty").mkdir()
    formats.write_diffusers(tiny, erasure, tmp_path / "empty")
    assert (tmp_path / "empty" / "model_index.json").exists()


def test_a_failed_export_leaves_no_folder(tiny, erasure, tmp_path, monkeypatch):
    def fail(self, folder, **_):
        folder.mkdir()
        (folder / "half").touch()
        raise OSError("disk full")

    monkeypatch.setattr(StableDiffusionPipeline, "save_pretrained", fail)
    with pytest.raises(OSError, match="disk full"):
        formats.write_diffusers(tiny, erasure, tmp_path / "pipeline")
    assert list(tmp_path.iterdir()) == []
