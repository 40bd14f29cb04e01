"""Stable Diffusion 1.x and 2.x pipelines in diffusers layout, loaded as a `DiffusionModel`.

A pipeline that would not be sampled here as diffusers samples it is refused, in one sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

import torch
from diffusers import StableDiffusionPipeline

from esd_core.denoise import PredictionType
from esd_core.models import DiffusionModel
from esd_core.vocabulary import Vocabulary

# What a UNet can ask for beside x_t, t and a prompt's text states (SDXL, LCM, unCLIP, upscalers).
BESIDE_THE_PROMPT = ("time_cond_proj_dim", "addition_embed_type", "class_embed_type", "num_class_embeds")
CONVERT = "convert it by diffusers' StableDiffusionPipeline"
EMOJI = Path(__file__).resolve().parents[2] / "assets" / "emoji"


def load_model(
    name: str = "emoji", *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> DiffusionModel:
    """Load a model: `"emoji"`, the embedded one, which needs no network; a Hugging Face Hub id; or a local
    folder in diffusers layout.

    Args:
        name: what to load.
        device: default CUDA if there is a device, else the CPU.
        dtype: of the frozen weights; default float32 on the CPU, bfloat16 on CUDA (float16 where
            bfloat16 is not supported). Trained tensors are float32 whatever this is.

    Raises:
        ValueError: the model cannot be found, needs the network or a device that is not there, or would
            not be sampled as diffusers does.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # without CUDA torch asserts
        reason = str(error).partition("\n")[0]
        raise ValueError(f"device {str(device)!r} cannot be used here: {reason}") from error
    if dtype is None:
        half = torch.bfloat16 if device.type != "cuda" or torch.cuda.is_bf16_supported() else torch.float16
        dtype = torch.float32 if device.type == "cpu" else half
    folder = EMOJI if name == "emoji" else Path(name).expanduser()
    pipeline = read(name, folder, dtype).to(device)
    parts = (pipeline.tokenizer, pipeline.text_encoder, pipeline.unet, pipeline.vae)
    for part in parts[1:]:
        part.requires_grad_(False).eval()
    clip, words = folder / "clip", Vocabulary.load(folder / "concepts.json")
    return DiffusionModel(name, *parts, pipeline.scheduler, words, clip if clip.is_dir() else None)


def read(name: str, folder: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    """The pipeline in `folder`, or of the Hub id `name` if there is no such folder, on the CPU."""
    refuse(name, path_faults(name, folder))
    weights = [file.name for file in folder.glob("unet/*.safetensors")]
    variant = "fp16" if weights and all(".fp16" in file for file in weights) else None
    options = dict(variant=variant, safety_checker=None, feature_extractor=None)
    source = str(folder) if folder.is_dir() else name
    try:
        kind = StableDiffusionPipeline.load_config(source).get("_class_name")
        if kind != "StableDiffusionPipeline":
            raise TypeError(f"it is a {kind}")
        pipeline = StableDiffusionPipeline.from_pretrained(
            source, dtype=dtype, use_safetensors=True, requires_safety_checker=False, **options
        )
    except Exception as error:  # the library of each part raises errors of its own
        raise ValueError(
            f"cannot load {name!r} as a Stable Diffusion pipeline (a folder in diffusers layout, or a Hub id "
            f"that is in the local cache or reachable over the network): {' '.join(str(error).split())}"
        ) from error
    refuse(name, part_faults(pipeline))
    return pipeline


def refuse(name: str, faults: Iterable[tuple[object, str]]) -> None:
    """Raise a ValueError with the sentence of the first fault that is there."""
    for there, sentence in faults:
        if there:
            raise ValueError(f"cannot load {name!r}: {sentence}")


def path_faults(name: str, folder: Path) -> Iterator[tuple[object, str]]:
    """What a path can have wrong before anything is read: whether it has, and how to say it."""
    hub_id = re.fullmatch(r"\w[\w.-]*/[\w.-]+", name) and not Path(name).parent.is_dir()
    yield not folder.exists() and not hub_id, "there is no such folder, and a Hub id has the form owner/name"
    yield folder.is_file(), f"it is one file; {CONVERT}.from_single_file(...).save_pretrained(...)"
    no_index = folder.exists() and not (folder / "model_index.json").exists()
    yield no_index, "it holds no diffusers pipeline: model_index.json is missing"
    pickled = any(folder.glob("unet/*.bin")) and not any(folder.glob("unet/*.safetensors"))
    convert = "from_pretrained(..., use_safetensors=False).save_pretrained(...)"
    yield pickled, f"its weights are .bin files, which can run code when read; {CONVERT}.{convert}"


def part_faults(pipeline: StableDiffusionPipeline) -> Iterator[tuple[object, str]]:
    """What keeps us from drawing what diffusers draws: whether it is there, and how to say it."""
    unet, steps = pipeline.unet.config, pipeline.scheduler.config
    latents, ins, outs = pipeline.vae.config.latent_channels, unet.in_channels, unet.out_channels
    other = not latents == ins == outs
    yield other, f"its UNet makes {outs} channels of {ins} (inpainting?); latents have {latents}"
    more = ", ".join(key for key in BESIDE_THE_PROMPT if unet.get(key) is not None)
    yield more, f"its UNet asks for more than a prompt: {more}"
    other = not isinstance(unet.sample_size, int)
    yield other, f"its UNet's sample_size is {unet.sample_size}; pictures are square: use one integer"
    kind, kinds = steps.get("prediction_type"), get_args(PredictionType)
    other = not hasattr(pipeline.scheduler, "alphas_cumprod") or steps.get("timestep_type") == "continuous"
    yield other or steps.get("use_flow_sigmas"), "its scheduler is for flow matching or EDM; use DDIM's"
    yield kind not in kinds, f"its scheduler's prediction_type is {kind!r}; use one of: {', '.join(kinds)}"
    zero = "rescale_betas_zero_snr makes alpha_bar 0, by which prediction_type 'epsilon' divides"
    yield kind == "epsilon" and steps.get("rescale_betas_zero_snr"), f"{zero}; change one of the two"
