"""Parameters in a PNG: there and back; anything odd is refused."""

import json
from dataclasses import replace

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from esd_core.config import preset
from esd_core.erasing import erase
from esd_core.exchange import png_parameters

SHORT = dict(iterations=1, num_inference_steps=2, trajectories=2, batch_size=2)


@pytest.fixture(scope="module")
def made(tiny) -> png_parameters.Parameters:
    *_, step = erase(tiny, preset("live", "a cat", **SHORT, train_method="esd-x"))
    return png_parameters.of(
        tiny,
        step.erasure,
        ("a cat", "", "ein Kätzchen 猫"),
        (1, 2),
        strength=0.5,
        negative_prompt="a cat",
        guidance_scale=3.0,
        num_inference_steps=5,
        scheduler="euler",
    )


def written(path, **chunks):
    info = PngInfo()
    for name, text in chunks.items():
        info.add_text(name.replace("_", "-"), text)
    Image.new("RGB", (2, 2)).save(path, pnginfo=info)
    return path


@pytest.fixture(scope="module")
def older() -> dict:
    """The JSON that a former version wrote into a PNG."""
    config = preset("live", "a cat", **SHORT, train_method="esd-x").to_dict() | {
        "learning_rate_schedule": "constant"
    }
    return {
        "format": "esd-lab-picture/1",
        "prompts": ["a cat"],
        "seeds": [1, 2],
        "guidance_scale": 4,
        "num_inference_steps": 5,
        "scheduler": "dpm++",
        "negative_prompt": "",
        "strength": 1.0,
        "model": "emoji",
        "base": "143ef7f036bf",
        "erasure": "0123456789ab",
        "config": config,
        "column": None,
        "place": [0, 1],
        "axes": [["seed", "1, 2"], ["prompt", "a cat; a dog"]],
        "versions": ["torch 2.9", "diffusers 0.36"],
    }


def test_pictures_of_former_versions_are_read(older, tmp_path):
    read = png_parameters.read(written(tmp_path / "a.png", esd_lab=json.dumps(older)))
    assert (read.seeds, read.place, read.axes[1]) == ((1, 2), (0, 1), ("prompt", "a cat; a dog"))
    assert read.config == preset("live", "a cat", **SHORT, train_method="esd-x")


def test_seeds_of_other_tools_are_taken(made):
    assert replace(made, seeds=(2**32 - 1,)).seeds == (2**32 - 1,)


def test_what_is_written_is_read_back(made, tmp_path):
    picture = png_parameters.stamp(Image.new("RGB", (4, 4)), made)
    assert png_parameters.read(png_parameters.save(picture, tmp_path / "a.png")) == made
    assert made.config == preset("live", "a cat", **SHORT, train_method="esd-x")


def test_the_readable_text_is_of_the_picture_it_is_in(made):
    sheet = png_parameters.as_text(made)
    assert sheet.startswith("a cat\n\nein Kätzchen 猫\nNegative prompt: a cat\nSteps: 5, Sampler: ")
    assert "CFG scale: 3, Seed: 1 2, Model hash: " in sheet and "Erasure strength: 0.5" in sheet
    base = png_parameters.as_text(replace(made, column="base", place=(0, 1)))
    assert base.startswith("a cat\nSteps: 5") and "Seed: 2," in base and "Eras" not in base


def test_a_picture_without_parameters_is_refused(tmp_path):
    with pytest.raises(ValueError, match="carries no parameters"):
        png_parameters.read(written(tmp_path / "a.png", parameters="a cat"))
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(ValueError, match="not a readable PNG"):
        png_parameters.read(tmp_path / "b.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png", format="WEBP")
    with pytest.raises(ValueError, match="not a readable PNG"):
        png_parameters.read(tmp_path / "c.png")


@pytest.mark.parametrize(
    "change",
    [
        dict(seeds=[-1]),
        dict(seeds=[2**32]),
        dict(seeds=[True]),
        dict(seeds=["1"]),
        dict(seeds=[]),
        dict(seeds=5),
        dict(prompts=[5]),
        dict(prompts=["a"] * 65),
        dict(prompts=["a" * 2001]),
        dict(num_inference_steps=10**9),
        dict(guidance_scale="4"),
        dict(guidance_scale=float("nan")),
        dict(strength=99),
        dict(scheduler=["ddim"]),
        dict(scheduler="best"),
        dict(erasure=5),
        dict(colour="red"),
        dict(config={"concepts": "a cat", "eta": 99}),
        dict(config=[1]),
        dict(config={"concepts": "a cat", "self": 1}),
        dict(__dataclass_self__=1),
        dict(format="other"),
        dict(axes=[["seed", "1"]]),
        dict(axes=[["seed", 5], ["steps", "1"]]),
        dict(axes="ab"),
        dict(axes=5),
        dict(place=[1]),
        dict(column=5),
    ],
)
def test_parameters_that_cannot_be_are_refused(made, tmp_path, change):
    known = {**json.loads(png_parameters.stamp(Image.new("RGB", (2, 2)), made).info["esd-lab"]), **change}
    with pytest.raises(ValueError, match="cannot be used") as refused:
        png_parameters.read(written(tmp_path / "a.png", esd_lab=json.dumps(known)))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 500


@pytest.mark.parametrize("text", ["5", "[]", "{}", "[" * 50_000, "null", "{"])
def test_json_of_another_kind_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="cannot be used"):
        png_parameters.read(written(tmp_path / "a.png", esd_lab=text))


def test_a_chunk_too_long_is_refused(tmp_path):
    with pytest.raises(ValueError, match="carries no parameters"):
        png_parameters.read(written(tmp_path / "a.png", esd_lab="1" * 100_001))
