"""Other people's formats cross both ways; a stranger's file is refused unless it is good."""

import copy
import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from esd_core import denoise, erase, preset
from esd_core.erasure import FORMAT, Erasure
from esd_core.exchange import formats
from esd_core.exchange.pipelines import load_model
from esd_core.selection import select
from esd_core.support import files

CONFIG = preset("live", "a cat", iterations=1, trajectories=1, num_inference_steps=2, train_method="esd-x")


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
    back = formats.load_erasure(official, tiny)
    assert all(torch.equal(back.tensors[n], t) for n, t in erasure.tensors.items())
    assert back.base == "" and "not recorded" in back.provenance["model"]
    assert back.provenance["file_name_says"] == {
        "concept": "Van Gogh",
        "erase_from": "a cat",
        "train_method": "esdx",
    }


def test_a_file_of_another_name_says_nothing(tiny, erasure, tmp_path):
    path = formats.write_official(erasure, tmp_path / "mine.safetensors")
    assert "file_name_says" not in formats.load_erasure(path, tiny).provenance


def test_a_file_of_another_model_is_refused(tiny, tmp_path):
    stranger = Erasure({"conv_nowhere.weight": torch.zeros(2)}, "")
    path = formats.write_official(stranger, tmp_path / "esd.safetensors")
    with pytest.raises(ValueError, match="conv_nowhere"):
        formats.load_erasure(path, tiny)


def test_a_pickle_is_never_opened(tiny, tmp_path):
    path = tmp_path / "esd.safetensors"
    torch.save({"conv_in.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="readable"):
        formats.load_erasure(path, tiny)


def test_an_official_file_overwrites_nothing(erasure, official, tmp_path):
    with pytest.raises(ValueError, match="exists"):
        formats.write_official(erasure, official)
    with pytest.raises(ValueError, match=r"\.safetensors"):
        formats.write_official(erasure, tmp_path / "esd.pt")


def test_load_erasure_takes_both_kinds(tiny, tiny_v, erasure, official, tmp_path):
    ours = erasure.save(tmp_path / "ours.safetensors")
    assert formats.load_erasure(ours, tiny).base == tiny.fingerprint
    assert formats.load_erasure(official, tiny).base == ""
    other = Erasure(erasure.tensors, "0" * 12).save(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another model"):
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


def test_a_half_precision_export_draws_with_diffusers_alone(tiny, erasure, tmp_path):
    parts = {
        name: copy.deepcopy(getattr(tiny, name)).to(torch.bfloat16)
        for name in ("unet", "vae", "text_encoder")
    }
    half = replace(tiny, **parts)
    pipeline = StableDiffusionPipeline.from_pretrained(formats.write_diffusers(half, erasure, tmp_path / "p"))
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat", num_inference_steps=2, output_type="pt").images.isfinite().all()
    assert half.text_encoder.dtype == torch.bfloat16  # the model itself stays as it is


def test_a_folder_with_anything_in_it_is_refused(tiny, erasure, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    for taken in (tmp_path / "full", tmp_path / "full" / "note"):
        with pytest.raises(ValueError, match="empty"):
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


# --- strangers' files -------------------------------------------------------------------------


@pytest.fixture
def made(tiny) -> Erasure:
    tensors = {n: tiny.unet.get_parameter(n).detach() + 1 for n in select(tiny.unet, "esd-x")}
    return Erasure(tensors, tiny.fingerprint, {"model": tiny.name})


def with_header(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_our_own_file_comes_back(tiny, made, tmp_path):
    path = made.save(tmp_path / "a.safetensors")
    assert formats.load_erasure(path, tiny).hash == made.hash


def test_the_authors_file_in_half_precision_is_read(tiny, made, tmp_path):
    path = tmp_path / "esd-a_cat-from-a_cat-esdx.safetensors"
    save_file({n: t.bfloat16() for n, t in made.tensors.items()}, path)
    read = formats.load_erasure(path, tiny)
    assert read.provenance["file_name_says"]["concept"] == "a cat"
    assert read.tensors.keys() == made.tensors.keys()


def test_a_file_may_hold_every_weight_and_no_more(tiny, made, tmp_path):
    whole = {n: p.detach() for n, p in tiny.unet.named_parameters()}
    path = replace(made, tensors=whole).save(tmp_path / "a.safetensors")
    assert set(formats.load_erasure(path, tiny, formats.largest(tiny)).tensors) == set(whole)
    with path.open("ab") as file:
        file.write(bytes(formats.SLACK))
    with pytest.raises(ValueError, match="are read"):
        formats.load_erasure(path, tiny, formats.largest(tiny))


def test_a_file_too_large_is_refused_unread(tiny, made, tmp_path):
    path = made.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="files up to 0.01562 MB are read"):
        formats.load_erasure(path, tiny, most=2**14)


def test_other_kinds_of_file_are_refused(tiny, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no .safetensors file"):
        formats.load_erasure(path, tiny)
    disguised = path.rename(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="readable"):
        formats.load_erasure(disguised, tiny)


@pytest.mark.parametrize(
    ("header", "data", "said"),
    [
        (b"[1, 2]", 0, "not a readable safetensors file.* invalid JSON in header"),
        (b"[" * 100_000, 0, "not a readable safetensors file.* invalid JSON in header"),
        (b"{", 0, "not a readable safetensors file.* invalid JSON in header"),
        (b"{}", 0, "holds no tensors"),
        (b'{"a": 5}', 0, "not a readable safetensors file"),
        (b'{"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}', 8, "of type I64"),
        (b'{"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}', 0, "not a readable safet"),
        (
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            4,
            "'a' of shape .* does not have",
        ),
        (b'{"conv_in.bias": {"dtype": "F32", "shape": [1000000000000]}}', 0, "not a readable safet"),
        (b'{"conv_in.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', 4, "of shape"),
        (
            b'{"conv_in.bias": {"dtype": "F32", "shape": [0, 9000000000000000000], "data_offsets": [0, 0]}}',
            0,
            "of shape",
        ),
        (
            b'{"conv_in.bias": {"dtype": "F32", "shape": "[16]", "data_offsets": [0, 4]}}',
            4,
            "not a readable safetensors file",
        ),
        (
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},'
            b' "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
            4,
            "invalid offset",
        ),
        (b'{"__metadata__": {"format": 5}}', 0, "not a readable safetensors file"),
    ],
)
def test_a_wrong_header_is_refused(tiny, tmp_path, header, data, said):
    with pytest.raises(ValueError, match=said):
        formats.load_erasure(with_header(tmp_path / "a.safetensors", header, bytes(data)), tiny)


def test_of_a_tensor_named_twice_the_last_is_read(tiny, made, tmp_path):
    name = "conv_in.bias"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    shape = list(tiny.unet.conv_in.bias.shape)
    size = 4 * shape[0]
    right = {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}
    header = f'{{"{name}": {json.dumps(entry)}, "{name}": {json.dumps(right)}}}'.encode()
    read = formats.load_erasure(with_header(tmp_path / "a.safetensors", header, bytes(size)), tiny)
    assert list(read.tensors[name].shape) == shape


@pytest.mark.parametrize("length", [2**60, 2**20 + 1])
def test_a_header_too_long_is_refused_unread(tiny, tmp_path, length):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", length) + b"{}")
    with pytest.raises(ValueError, match="header"):
        formats.load_erasure(path, tiny)


def test_a_header_longer_than_the_file_is_refused(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 400) + b"{}")
    with pytest.raises(ValueError, match="header"):
        formats.load_erasure(path, tiny)


def test_offsets_outside_the_file_are_refused(tiny, tmp_path):
    shape = list(tiny.unet.conv_in.bias.shape)
    header = {"conv_in.bias": {"dtype": "F32", "shape": shape, "data_offsets": [0, 10**12]}}
    with pytest.raises(ValueError, match="readable"):
        formats.load_erasure(with_header(tmp_path / "a.safetensors", json.dumps(header).encode()), tiny)


def test_a_record_nested_too_deep_is_refused(tiny, made, tmp_path):
    path = tmp_path / "a.safetensors"
    metadata = {"format": "esd-lab/1", "base": tiny.fingerprint, "provenance": "[" * 100_000}
    save_file({n: t.contiguous() for n, t in made.tensors.items()}, path, metadata)
    with pytest.raises(ValueError, match="provenance"):
        formats.load_erasure(path, tiny)


def test_numbers_that_are_not_finite_are_refused(tiny, made, tmp_path):
    next(iter(made.tensors.values())).fill_(float("nan"))
    with pytest.raises(ValueError, match="finite"):
        formats.load_erasure(made.save(tmp_path / "a.safetensors"), tiny)


@pytest.mark.parametrize("suffix", [".safetensors", ".SAFETENSORS", ".SafeTensors"])
def test_library_and_command_line_take_what_the_app_takes(tiny, made, tmp_path, suffix):
    path = made.save(tmp_path / f"a{suffix}")
    assert formats.load_erasure(path, tiny).hash == Erasure.load(path).hash == made.hash


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_of_16_bits_and_more_are_read(tiny, made, tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    save_file({n: t.to(dtype) for n, t in made.tensors.items()}, path)
    read = formats.load_erasure(path, tiny)
    assert all(torch.equal(t, made.tensors[n].to(dtype).float()) for n, t in read.tensors.items())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_8_bits_are_too_few(tiny, made, tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    save_file({n: t.to(dtype) for n, t in made.tensors.items()}, path, {"format": FORMAT})
    for read in (Erasure.load, lambda path: formats.load_erasure(path, tiny)):
        with pytest.raises(ValueError, match="F8_E.*F16, BF16, F32, F64"):
            read(path)


def test_no_refusal_tells_a_visitor_the_servers_folders(tiny, made, tmp_path):
    good = made.save(tmp_path / "good.safetensors").read_bytes()
    nan = {n: torch.full_like(t, float("nan")) for n, t in made.tensors.items()}
    stranger = {"x" * 1000: torch.zeros(1)}
    replace(made, tensors=nan).save(tmp_path / "nan.safetensors")
    Erasure(stranger, "").save(tmp_path / "stranger.safetensors")
    replace(made, tensors={}).save(tmp_path / "none.safetensors")
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "half.safetensors").write_bytes(good[: len(good) // 2])
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "a.pt").touch()
    save_file(made.tensors, tmp_path / "record.safetensors", {"format": FORMAT, "provenance": "{"})
    for name in ("nan", "none", "empty", "half", "folder", "record", "stranger", "missing"):
        with pytest.raises(ValueError) as refused:
            formats.load_erasure(tmp_path / f"{name}.safetensors", tiny)
        assert str(tmp_path) not in str(refused.value) and len(str(refused.value)) < 300
    with pytest.raises(ValueError, match=r"^a\.pt is no"):
        formats.load_erasure(tmp_path / "a.pt", tiny)


def test_nor_where_the_servers_model_lies(tiny, made, tmp_path):
    served = replace(tiny, name=str(tmp_path))
    name = "conv_in.bias"
    for wrong in (
        replace(made, base="0" * 12),
        Erasure({"x": torch.zeros(1)}, ""),
        Erasure({name: torch.zeros(1)}, ""),
    ):
        with pytest.raises(ValueError, match=f"{tmp_path.name!r}") as refused:
            wrong.check(served)
        assert str(tmp_path) not in str(refused.value)


def test_a_file_is_read_once(tiny, made, tmp_path, monkeypatch):
    path, opened = made.save(tmp_path / "a.safetensors"), []

    def counted(file, **options):
        opened.append(file)
        return safe_open(file, **options)

    monkeypatch.setattr(files, "safe_open", counted)
    formats.load_erasure(path, tiny)
    assert opened == [path]
