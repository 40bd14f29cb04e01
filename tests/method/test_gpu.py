"""The same promises on a CUDA device, in the half precision it is used with."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from esd_core.config import EraseConfig
from esd_core.erasing import erase
from esd_core.models import DiffusionModel
from esd_core.sampling import generate, noise

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


def on_cuda(model: DiffusionModel, dtype: torch.dtype) -> DiffusionModel:
    parts = {
        name: copy.deepcopy(getattr(model, name)).to("cuda", dtype)
        for name in ("text_encoder", "unet", "vae")
    }
    return replace(model, **parts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_seed_draws_the_same_picture_as_on_the_cpu(tiny, dtype):
    gpu = on_cuda(tiny, dtype)
    assert torch.equal(noise(gpu, [1, 2]).cpu(), noise(tiny, [1, 2]))
    options = dict(seeds=[1, 2], num_inference_steps=5)
    images = generate(gpu, "a cat", **options)
    assert images.device.type == "cpu" and images.dtype == torch.float32
    tolerance = 1e-2 if dtype == torch.float32 else 0.2
    assert_close(images, generate(tiny, "a cat", **options), atol=tolerance, rtol=0)


@pytest.mark.parametrize("method", ["esd-x", "esd-u"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_erasing_learns_float32_tensors_and_leaves_the_model(tiny, dtype, method):
    gpu = on_cuda(tiny, dtype)
    before = {n: p.clone() for n, p in gpu.unet.named_parameters()}
    rate = 5e-3 if method == "esd-x" else 3e-4
    config = EraseConfig(
        "a cat",
        train_method=method,
        learning_rate=rate,
        iterations=20,
        num_inference_steps=4,
        trajectories=4,
        preserve=1.0,
    )
    for step in erase(gpu, config):
        error = step.held_out_error()
    assert error < 0.9
    trained = step.erasure.tensors
    assert {(t.dtype, t.device.type) for t in trained.values()} == {(torch.float32, "cpu")}
    assert all(torch.equal(p, before[n]) for n, p in gpu.unet.named_parameters())
    step.erasure.apply(gpu)
