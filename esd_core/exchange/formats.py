"""Read and write other people's files: strangers', the authors' 2025 erasures, diffusers folders, pictures.

`official` is what `esd_sd.py` (rohitgandikota/erasing) saves: the trained tensors under diffusers' UNet names
without metadata, named `esd-{concept}-from-{context}-{method}.safetensors`. `diffusers` is the folder layout
of `DiffusionPipeline.save_pretrained`, `kohya` a LoRA as kohya-ss/sd-scripts names it and web interfaces read
it; what `Erasure.save` writes of `esd-lora` is a LoRA for diffusers already. Nothing is ever unpickled.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from esd_core.erasure import DOWN, PREFIX, UP, Erasure
from esd_core.models import DiffusionModel
from esd_core.support.files import read_safetensors, replacing, write_safetensors, write_text

LARGEST = 512 * 2**20  # bytes; esd-x of Stable Diffusion 1.4 is 176 MB in float32, esd-u 3.3 GB
SLACK = 2 * 2**20  # bytes of a file that are no weights
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# With spaces as underscores, and the method without its hyphens.
_NAME = re.compile(r"esd-(?P<concept>.+)-from-(?P<erase_from>.+)-(?P<train_method>esd\w+)$")


def largest(model: DiffusionModel) -> int:
    """Bytes that a visitor's file may have: every weight in float32, but no more than LARGEST."""
    weights = sum(p.numel() for p in model.unet.parameters())
    return min(LARGEST, 4 * weights + SLACK)


def load_erasure(path: str | Path, model: DiffusionModel, most: int | None = None) -> Erasure:
    """An erasure for `model`: one of ours, of the authors' 2025 script, or a LoRA of the UNet alone in the
    names of diffusers or kohya-ss/sd-scripts. Where no base model is recorded, `base` stays empty and only
    names and shapes are checked; the name of an authors' file says what it erases. `most` is the number of
    bytes it may have, as `largest` for a visitor's. ValueError if the file is not readable (see
    `read_safetensors`), or made for another model."""
    path = Path(path)
    metadata, tensors = read_safetensors(path, most)
    named = _in_our_names(tensors, model)
    if "provenance" in metadata:
        erasure = Erasure.from_file(path.name, metadata, named)
    else:
        erasure = Erasure(named, "", _official_record(path))
    erasure.check(model)
    return erasure


def _in_our_names(tensors: dict[str, Tensor], model: DiffusionModel) -> dict[str, Tensor]:
    """A LoRA's factors as erasures hold them, scaled by kohya's alpha over the rank; others as they are."""
    named = {name.removeprefix(PREFIX): value for name, value in tensors.items()}
    for layer, _ in model.unet.named_modules():
        names = _kohya(layer)
        if {*names[:2]} <= named.keys():
            down, up, *alpha = (named.pop(name) for name in names if name in named)
            scale = alpha[0].mean() / down.shape[:1].numel() if alpha else 1.0
            named |= {layer + DOWN: scale * down, layer + UP: up}
    return named


def _kohya(layer: str) -> list[str]:
    """How kohya-ss/sd-scripts names the factors of a UNet's layer, and their scale."""
    flat = layer.replace(".", "_")
    return [f"lora_unet_{flat}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha")]


def _official_record(path: Path) -> dict[str, Any]:
    checked = "not recorded in the file; only tensor names and shapes were checked"
    record: dict[str, Any] = {"file": path.name, "model": checked}
    if found := _NAME.match(path.stem):
        record["file_name_says"] = {key: text.replace("_", " ") for key, text in found.groupdict().items()}
    return record


def write_official(erasure: Erasure, path: str | Path, model: DiffusionModel | None = None) -> Path:
    """The file that the authors' 2025 script would have saved, in float32 (theirs is bfloat16).

    A LoRA, which holds no whole matrices, needs the model that it was made for. ValueError if that is missing
    or another, the file exists, or its name does not end in .safetensors.
    """
    if erasure.is_lora:
        if model is None:
            raise ValueError("this erasure is a LoRA; its whole matrices need the model it was made for")
        edited = erasure.apply(model)
        erasure = Erasure({name: edited.get_parameter(name).float() for name in erasure.changes}, "")
    return _write_new(path, erasure.tensors)


def write_kohya(erasure: Erasure, path: str | Path) -> Path:
    """A LoRA in the names of kohya-ss/sd-scripts, such as `lora_unet_mid_block_..._to_k.lora_down.weight`,
    with an `alpha` that scales by 1, and our record. ValueError if the erasure is of full rank, the file
    exists, or its name does not end in .safetensors."""
    if not erasure.is_lora:
        raise ValueError("this erasure changes whole matrices; erase with train method 'esd-lora' for a LoRA")
    named, factors = dict[str, Tensor](), erasure.tensors
    for layer in (name.removesuffix(".weight") for name in erasure.changes):
        down, up = factors[layer + DOWN], factors[layer + UP]
        named |= zip(_kohya(layer), (down, up, torch.tensor(float(len(down)))), strict=True)
    record = {"base": erasure.base, "provenance": json.dumps(erasure.provenance)}
    return _write_new(path, named, {"format": "kohya", **record})


def _write_new(path: str | Path, *what: dict[str, Any]) -> Path:
    if Path(path).exists():
        raise ValueError(f"{path} exists; name a new file")
    return write_safetensors(path, *what)


def write_diffusers(
    model: DiffusionModel, erasure: Erasure, folder: str | Path, strength: float = 1.0
) -> Path:
    """A complete pipeline folder with the edited UNet, `strength` as in `Erasure.apply`, in place, and
    `erasure.json` on its origin; ValueError if the folder is not empty, or the erasure another model's."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; name a new one")
    pipeline = model.to_pipeline(erasure.apply(model, strength))
    # transformers computes in the type that it finds, diffusers in float32, and the two must meet.
    pipeline.text_encoder = copy.deepcopy(pipeline.text_encoder).float()
    if folder.exists():
        folder.rmdir()
    with replacing(folder) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
        origin = {"base": erasure.base, "strength": strength, "provenance": erasure.provenance}
        write_text(temporary / "erasure.json", json.dumps(origin, indent=1) + "\n")
    return folder


def read_pictures(paths: Sequence[Path], size: int) -> Tensor:
    """Pictures `(M, 3, size, size)` in [0, 1] from files and folders, cut to the middle square, on white;
    ValueError if there are none, or one is not readable or too large."""
    nested = [sorted(p.iterdir()) if p.is_dir() else [p] for p in paths]
    files = [f for group in nested for f in group if f in paths or f.suffix.lower() in PICTURES]
    if not files:
        raise ValueError(f"no pictures ({', '.join(PICTURES)}) in {', '.join(map(str, paths))}")
    read, white = [], Image.new("RGBA", (size, size), "white")
    for file in files:
        try:
            with Image.open(file) as opened:
                square = ImageOps.fit(opened.convert("RGBA"), (size, size))
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read the picture {file}: {error}") from error
        read.append(np.array(Image.alpha_composite(white, square).convert("RGB")))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2) / 255
