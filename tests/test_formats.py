"""Other people's formats cross both ways."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

from esd_core import erase, preset
from esd_core.formats import read_official, write_diffusers, write_official


@pytest.fixture(scope="module")
def erasure(tiny):
    config = preset("live", "a cat", iterations=1, trajectories=1, num_inference_steps=2)
    *_, last = erase(tiny, config)
    return last.erasure


def test_official_round_trip_keeps_every_number(tiny, erasure, tmp_path):
    back = read_official(write_official(erasure, tmp_path / "esd.safetensors"), tiny)
    assert back.base == "" and back.tensors.keys() == erasure.tensors.keys()
    assert all(torch.equal(back.tensors[n], t) for n, t in erasure.tensors.items())


def test_official_file_of_another_model_is_refused(tiny, erasure, tmp_path):
    stranger = type(erasure)({"conv_nowhere.weight": torch.zeros(2)}, "")
    path = write_official(stranger, tmp_path / "esd.safetensors")
    with pytest.raises(ValueError, match="conv_nowhere"):
        read_official(path, tiny)


def test_diffusers_folder_loads_without_us(tiny, erasure, tmp_path):
    folder = write_diffusers(tiny, erasure, tmp_path / "pipeline")
    loaded = dict(StableDiffusionPipeline.from_pretrained(folder).unet.named_parameters())
    assert all(torch.equal(loaded[n], t) for n, t in erasure.tensors.items())
    with pytest.raises(ValueError, match="not empty"):
        write_diffusers(tiny, erasure, folder)
