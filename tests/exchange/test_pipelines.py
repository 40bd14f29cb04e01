"""Loading a pipeline as the frozen parts, and what is refused."""

import copy
import json
import shutil
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch.testing import assert_close
from typer.testing import CliRunner

from esd_core.cli.app import app
from esd_core.exchange.pipelines import EMOJI, load_model
from esd_core.vocabulary import Concept

WORDS = {
    "concepts": [
        {"name": "cat", "phrase": "a cat", "kind": "object", "category": "animals"},
        {"name": "noto", "phrase": "noto style", "kind": "style", "category": "style"},
    ],
    "words": ["a", "cat", "noto", "style"],
}


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    """`tiny` on disk in diffusers' layout, with a list of what it was taught."""
    path = tmp_path_factory.mktemp("models") / "tiny"
    tiny.to_pipeline().save_pretrained(path, safe_serialization=True)
    (path / "concepts.json").write_text(json.dumps(WORDS))
    return path


def test_a_saved_pipeline_loads_as_the_same_model(tiny, folder):
    model = load_model(str(folder), device="cpu")
    assert model.fingerprint == tiny.fingerprint
    assert model.name == str(folder) and model.prediction_type == "epsilon"
    assert not any(p.requires_grad for p in model.unet.parameters())
    assert_close(model.encode(["a cat"]), tiny.encode(["a cat"]))
    assert torch.equal(model.alpha_bar, tiny.alpha_bar)


def test_half_precision_loads_as_the_same_weights(tiny, folder):
    model = load_model(str(folder), device="cpu", dtype=torch.bfloat16)
    assert model.unet.dtype == torch.bfloat16
    assert model.fingerprint == tiny.fingerprint  # read at the coarser precision of the two
    assert model.encode(["a cat"]).dtype == torch.float32


def test_a_vocabulary_is_read_from_beside_the_weights(folder):
    model = load_model(str(folder), device="cpu")
    assert [c.name for c in model.vocabulary.of_kind("style")] == ["noto"]
    assert model.vocabulary.find(" A Cat ") == Concept("cat", "a cat", "object", "animals")
    assert model.vocabulary.find("dog") is None
    assert model.unknown_words("a DOG, a cat; dog 7") == ["dog", "7"]


# --- what cannot be loaded --------------------------------------------------------------------


def test_a_folder_without_a_pipeline_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model_index\.json"):
        load_model(str(tmp_path))


def test_a_damaged_pipeline_is_refused(folder, tmp_path):
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(ValueError, match="cannot load"):
        load_model(str(tmp_path), device="cpu")


def test_an_unreachable_name_is_refused(monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'")

    monkeypatch.setattr("diffusers.StableDiffusionPipeline.load_config", offline)
    with pytest.raises(ValueError, match="'no-one/no-such-model'.*connect"):
        load_model("no-one/no-such-model", device="cpu")


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ValueError, match="abacus"):
        load_model("emoji", device="abacus")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_scheduler(folder, name="DDIMScheduler", **options):
    edit(folder / "model_index.json", scheduler=["diffusers", name])
    edit(folder / "scheduler" / "scheduler_config.json", _class_name=name, **options)


def save_unet(folder, **options):
    tiny = UNet2DConditionModel.load_config(folder / "unet")
    UNet2DConditionModel.from_config({**tiny, **options}).save_pretrained(folder / "unet")


def pickle_weights(folder):
    UNet2DConditionModel.from_pretrained(folder / "unet").save_pretrained(
        folder / "unet", safe_serialization=False
    )
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink(missing_ok=True)


REFUSED = {  # what is done to a good folder, what is said of it
    "SDXL": (
        lambda f: edit(f / "model_index.json", _class_name="StableDiffusionXLPipeline"),
        "StableDiffusionXLPipeline",
    ),
    "ControlNet": (
        lambda f: edit(f / "model_index.json", _class_name="StableDiffusionControlNetPipeline"),
        "StableDiffusionControlNetPipeline",
    ),
    "inpainting": (lambda f: save_unet(f, in_channels=9), "4 channels of 9"),
    "guidance embedding": (lambda f: save_unet(f, time_cond_proj_dim=8), "time_cond_proj_dim"),
    "classes": (lambda f: save_unet(f, num_class_embeds=3), "num_class_embeds"),
    "oblong": (lambda f: edit(f / "unet/config.json", sample_size=[8, 16]), r"sample_size is \[8, 16\]"),
    "flow": (lambda f: edit_scheduler(f, "FlowMatchEulerDiscreteScheduler"), "flow matching or EDM"),
    "flow in UniPC": (
        lambda f: edit_scheduler(f, "UniPCMultistepScheduler", use_flow_sigmas=True),
        "flow matching or EDM",
    ),
    "EDM": (lambda f: edit_scheduler(f, "EDMEulerScheduler"), "flow matching or EDM"),
    "x_0": (lambda f: edit_scheduler(f, prediction_type="sample"), "'sample'.* epsilon, v_prediction"),
    "zero SNR": (lambda f: edit_scheduler(f, rescale_betas_zero_snr=True), "rescale_betas_zero_snr"),
    "no index": (lambda f: (f / "model_index.json").unlink(), "model_index.json"),
    ".bin": (pickle_weights, r"\.bin"),
}
NEED_SCIPY = {
    "LMS": lambda f: edit_scheduler(f, "LMSDiscreteScheduler"),
    "beta sigmas": lambda f: edit_scheduler(f, "EulerDiscreteScheduler", use_beta_sigmas=True),
}


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "model")


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_model_that_cannot_be_sampled_as_in_diffusers_is_refused(copied, change, message):
    change(copied)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(str(copied), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(find_spec("scipy") is not None, reason="scipy is installed")
@pytest.mark.parametrize("change", NEED_SCIPY.values(), ids=NEED_SCIPY)
def test_a_scheduler_that_needs_scipy_is_refused_without_it(copied, change):
    change(copied)
    with pytest.raises(ValueError, match="scipy"):
        load_model(str(copied), device="cpu")


def test_the_command_line_refuses_in_one_sentence(copied):
    edit_scheduler(copied, rescale_betas_zero_snr=True)
    ran = CliRunner().invoke(app, ["info", str(copied)])
    assert ran.exit_code == 2 and ran.stderr.count("\n") == 1
    assert "rescale_betas_zero_snr" in ran.stderr


@pytest.mark.parametrize("name", ["model.safetensors", "sd.ckpt"])
def test_a_single_file_is_refused_with_the_way_to_convert_it(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"StableDiffusionPipeline\.from_single_file"):
        load_model(str(tmp_path / name), device="cpu")


@pytest.mark.parametrize("name", ["emojo", "./here", "/no/such/folder", "~/no-such-folder", "assets/emojo"])
def test_a_mistyped_path_is_refused_without_asking_the_network(monkeypatch, name):
    monkeypatch.setattr("diffusers.StableDiffusionPipeline.load_config", lambda *_: pytest.fail("asked"))
    monkeypatch.chdir(EMOJI.parent.parent)
    with pytest.raises(ValueError, match=f"'{name}'.* no such folder"):
        load_model(name, device="cpu")


def test_the_home_folder_is_found(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert load_model(f"~/{folder.name}", device="cpu").vocabulary is not None


def test_a_folder_with_half_precision_files_only_loads(tiny, tmp_path):
    parts = {name: copy.deepcopy(getattr(tiny, name)).half() for name in ("unet", "vae", "text_encoder")}
    replace(tiny, **parts).to_pipeline().save_pretrained(tmp_path / "half", variant="fp16")
    assert [p.name for p in (tmp_path / "half" / "unet").glob("*.safetensors")] == [
        "diffusion_pytorch_model.fp16.safetensors"
    ]
    model = load_model(str(tmp_path / "half"), device="cpu")
    assert model.unet.dtype == torch.float32
    assert torch.equal(model.unet.conv_in.weight, tiny.unet.conv_in.weight.half().float())
