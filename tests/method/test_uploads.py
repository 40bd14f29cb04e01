"""Erasures from strangers: good ones are read, everything else is refused before it is loaded."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from esd_core import uploads
from esd_core.erasure import Erasure
from esd_core.selection import select
from esd_core.uploads import read_erasure


@pytest.fixture
def made(tiny) -> Erasure:
    tensors = {n: tiny.unet.get_parameter(n).detach() + 1 for n in select(tiny.unet, "esd-x")}
    return Erasure(tensors, tiny.fingerprint, {"model": tiny.name})


def with_header(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_our_own_file_comes_back(tiny, made, tmp_path):
    path = made.save(tmp_path / "a.safetensors")
    assert read_erasure(path, tiny).hash == made.hash


def test_the_authors_file_in_half_precision_is_read(tiny, made, tmp_path):
    path = tmp_path / "esd-a_cat-from-a_cat-esdx.safetensors"
    save_file({n: t.bfloat16() for n, t in made.tensors.items()}, path)
    read = read_erasure(path, tiny)
    assert read.provenance["file_name_says"]["concept"] == "a cat"
    assert read.tensors.keys() == made.tensors.keys()


def test_a_file_may_hold_every_weight_and_no_more(tiny, made, tmp_path):
    whole = {n: p.detach() for n, p in tiny.unet.named_parameters()}
    path = replace(made, tensors=whole).save(tmp_path / "a.safetensors")
    assert set(read_erasure(path, tiny).tensors) == set(whole)
    with path.open("ab") as file:
        file.write(bytes(uploads.SLACK))
    with pytest.raises(ValueError, match="are read"):
        read_erasure(path, tiny)


def test_a_file_too_large_is_refused_unread(tiny, made, tmp_path):
    path = made.save(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="files up to 0.01562 MB are read"):
        read_erasure(path, tiny, most=2**14)


def test_other_kinds_of_file_are_refused(tiny, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no .safetensors file"):
        read_erasure(path, tiny)
    disguised = path.rename(tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        read_erasure(disguised, tiny)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"[1, 2]", "header is no JSON"),
        (b"[" * 100_000, "header is no JSON"),
        (b"{}", "holds no tensors"),
        (b'{"a": 5}', "of type None"),
        (b'{"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}', "of type I64"),
        (b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', "'a' and 0 more"),
        (b'{"conv_in.bias": {"dtype": "F32", "shape": [1000000000000]}}', "has shape"),
        (b'{"conv_in.bias": {"dtype": "F32", "shape": "[16]"}}', "has shape"),
    ],
)
def test_a_wrong_header_is_refused(tiny, tmp_path, header, said):
    with pytest.raises(ValueError, match=said):
        read_erasure(with_header(tmp_path / "a.safetensors", header), tiny)


def test_a_header_longer_than_the_file_is_refused(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(ValueError, match="its header is wrong"):
        read_erasure(path, tiny)


def test_offsets_outside_the_file_are_refused(tiny, tmp_path):
    shape = list(tiny.unet.conv_in.bias.shape)
    header = {"conv_in.bias": {"dtype": "F32", "shape": shape, "data_offsets": [0, 10**12]}}
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        read_erasure(with_header(tmp_path / "a.safetensors", json.dumps(header).encode()), tiny)


def test_a_record_nested_too_deep_is_refused(tiny, made, tmp_path):
    path = tmp_path / "a.safetensors"
    metadata = {"format": "esd-lab/1", "base": tiny.fingerprint, "provenance": "[" * 100_000}
    save_file({n: t.contiguous() for n, t in made.tensors.items()}, path, metadata)
    with pytest.raises(ValueError, match="its provenance is no JSON object"):
        read_erasure(path, tiny)


def test_numbers_that_are_not_finite_are_refused(tiny, made, tmp_path):
    next(iter(made.tensors.values())).fill_(float("nan"))
    with pytest.raises(ValueError, match="not made of finite floats"):
        read_erasure(made.save(tmp_path / "a.safetensors"), tiny)
