"""Load a Stable Diffusion 1.x/2.x pipeline as its frozen parts; encode prompts, decode latents.

High-Resolution Image Synthesis with Latent Diffusion Models (Rombach et al., 2022),
arXiv 2112.10752. `load_model("emoji")` is the embedded model, which needs no network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import BatchEncoding, CLIPTextModel, CLIPTokenizer

from esd_core.denoise import PredictionType
from esd_core.vocabulary import Vocabulary

VAE_PIXELS = 512 * 512  # through the VAE at once: one picture of Stable Diffusion's, 64 of the embedded one's
# What a UNet can ask for beside x_t, t and a prompt's text states (SDXL, LCM, unCLIP, upscalers).
BESIDE_THE_PROMPT = ("time_cond_proj_dim", "addition_embed_type", "class_embed_type", "num_class_embeds")
CONVERT = "convert it by diffusers' StableDiffusionPipeline"
EMOJI = Path(__file__).resolve().parent.parent / "assets" / "emoji"


@dataclass(frozen=True)
class DiffusionModel:
    """The frozen parts of a latent text-to-image model. Nothing here is ever changed."""

    name: str
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    scheduler: DDIMScheduler  # or whatever the pipeline came with; read for its config
    vocabulary: Vocabulary | None = None
    clip_path: Path | None = None  # a transformers CLIPModel that scores this model's pictures

    @property
    def device(self) -> torch.device:
        """Where the UNet lives."""
        return self.unet.device

    @property
    def prediction_type(self) -> PredictionType:
        """Whether the UNet's output is the noise or the velocity."""
        return self.scheduler.config.prediction_type

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Cumulative signal power of the training schedule, `(1000,)` on the model's device."""
        return self.scheduler.alphas_cumprod.to(self.device, torch.float32)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that identify the UNet's weights."""
        return fingerprint(self.unet)

    @property
    def short_name(self) -> str:
        """Its name for messages that a visitor may read: of a folder, without those around it."""
        return Path(self.name).name if Path(self.name).exists() else self.name

    @property
    def image_size(self) -> int:
        """The side of a picture in pixels that the model was trained for."""
        return self.unet.config.sample_size * self.scale_factor

    @property
    def scale_factor(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_shape(self, image_size: int | None = None) -> tuple[int, int, int]:
        """`(C, h, w)` of the latents of a square picture. ValueError if the size is not a positive multiple
        of what the UNet can halve."""
        size = self.image_size if image_size is None else image_size
        step = self.scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)
        if size < step or size % step:
            raise ValueError(f"image size {size} does not fit this model; use a multiple of {step}")
        side = size // self.scale_factor
        return (self.unet.config.in_channels, side, side)

    def tokenize(self, prompts: list[str]) -> BatchEncoding:
        """`input_ids` and `attention_mask`, a row per prompt, padded to the length that the text
        encoder reads; a longer prompt is not cut."""
        # Always padded the same: the tokenizer keeps that setting, and threads share the tokenizer.
        limit = self.tokenizer.model_max_length
        return self.tokenizer(prompts, padding="max_length", max_length=limit)

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """Text states `(B, L, D)` of prompts; `""` is the empty prompt of guidance. ValueError if a prompt is
        longer than the text encoder reads."""
        limit = self.tokenizer.model_max_length
        rows = self.tokenize(prompts)["input_ids"]
        for prompt, ids in zip(prompts, rows, strict=True):
            if len(ids) > limit:
                raise ValueError(
                    f"prompt {prompt!r} has {len(ids) - 2} tokens; this model reads {limit - 2}: shorten it"
                )
        return self.text_encoder(torch.tensor(rows, device=self.text_encoder.device))[0].float()

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """Clean latents `(B, C, h, w)` -> pictures `(B, 3, H, W)` in [0, 1], float32 on the CPU. ValueError
        if the pictures are not numbers (NaN or infinite)."""
        z = x_0.to(self.vae.dtype) / self.vae.config.scaling_factor
        each = max(1, VAE_PIXELS // (z[0, 0].numel() * self.scale_factor**2))
        images = torch.cat([self.vae.decode(few).sample.float().cpu() for few in z.split(each)])
        if not images.isfinite().all():
            way = "lower guidance_scale, the erasure's strength or its learning rate, or load in float32"
            raise ValueError(f"the pictures are NaN or infinite; {way}")
        return (images / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """Pictures `(B, 3, H, W)` in [0, 1] -> clean latents `(B, C, h, w)` (posterior mean)."""
        parts = (images * 2 - 1).contiguous().split(max(1, VAE_PIXELS // images[0, 0].numel()))
        encoded = [self.vae.encode(few.to(self.device, self.vae.dtype)).latent_dist.mean for few in parts]
        return torch.cat(encoded).float() * self.vae.config.scaling_factor

    def reads_alike(self, one: str, other: str) -> bool:
        """Whether the text encoder has the same states for both prompts."""
        return torch.equal(*self.encode([one, other]))

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` the model has never seen; [] if it keeps no list of its words."""
        return self.vocabulary.unknown_words(prompt) if self.vocabulary else []

    def with_unet(self, unet: UNet2DConditionModel) -> DiffusionModel:
        """The same model around another UNet (an edited copy, say)."""
        return replace(self, unet=unet)

    def to_pipeline(self, unet: UNet2DConditionModel | None = None) -> StableDiffusionPipeline:
        """A plain diffusers pipeline around these parts, with `unet` in place of the frozen one."""
        unet = self.unet if unet is None else unet
        parts = (self.vae, self.text_encoder, self.tokenizer, unet, self.scheduler)
        return StableDiffusionPipeline(*parts, None, None, requires_safety_checker=False)


def fingerprint(module: torch.nn.Module) -> str:
    """Twelve hex digits of weights: names, shapes and up to 16 values of each tensor, read as bfloat16."""
    digest = hashlib.sha256()
    for name, weight in module.named_parameters():
        values = weight.detach().flatten()
        values = values[:: max(1, values.numel() // 16)][:16].to("cpu", torch.bfloat16)
        digest.update(f"{name}{tuple(weight.shape)}{values.tolist()}".encode())
    return digest.hexdigest()[:12]


def load_model(
    name: str = "emoji", *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> DiffusionModel:
    """Load a model: `"emoji"`, a Hugging Face Hub id, or a local folder in diffusers layout.

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
