"""Read and write other people's files: the authors' 2025 erasures, and plain diffusers folders.

`official` is what `esd_sd.py` (rohitgandikota/erasing) saves: one safetensors file with the trained
tensors under diffusers' UNet names and no metadata, named
`esd-{concept}-from-{context}-{method}.safetensors`, read back by
`unet.load_state_dict(load_file(path), strict=False)`. `diffusers` is the folder layout of
`DiffusionPipeline.save_pretrained`. Safetensors only: nothing is ever unpickled.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from esd_core.atomic import replacing, write_text
from esd_core.erasure import FORMAT, Erasure, read_safetensors
from esd_core.models import DiffusionModel

# With spaces as underscores, and the method without its hyphens.
_NAME = re.compile(r"esd-(?P<concept>.+)-from-(?P<erase_from>.+)-(?P<train_method>esd\w+)$")


def load_erasure(path: str | Path, model: DiffusionModel) -> Erasure:
    """An erasure for `model`, whether we saved it or the authors' script did.

    Raises:
        ValueError: the file is missing, damaged, or made for another model.
    """
    metadata, _ = read_safetensors(path)
    if metadata.get("format") != FORMAT:
        return read_official(path, model)
    erasure = Erasure.load(path)
    erasure.check(model)
    return erasure


def read_official(path: str | Path, model: DiffusionModel) -> Erasure:
    """What the authors' 2025 script saved. Its base model is not recorded, so `base` stays empty
    and only names and shapes are checked; concept and method come from the file's name.

    Raises:
        ValueError: the file is damaged or does not fit `model`.
    """
    _, tensors = read_safetensors(path)
    provenance: dict[str, Any] = {
        "format": "official-2025",
        "file": Path(path).name,
        "model": "not recorded in the file; only tensor names and shapes were checked",
    }
    if found := _NAME.match(Path(path).stem):
        said = {key: text.replace("_", " ") for key, text in found.groupdict().items()}
        provenance["file_name_says"] = said
    erasure = Erasure(tensors, "", provenance)
    erasure.check(model)
    return erasure


def write_official(erasure: Erasure, path: str | Path) -> Path:
    """The file that the authors' 2025 script would have saved, in float32 (theirs is bfloat16).

    Raises:
        ValueError: the file exists, or its name does not end in .safetensors.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name!r} must end in .safetensors")
    if path.exists():
        raise ValueError(f"{path} exists; name a new file")
    with replacing(path) as temporary:
        save_file({n: t.contiguous() for n, t in erasure.tensors.items()}, temporary)
    return path


def write_diffusers(
    model: DiffusionModel, erasure: Erasure, folder: str | Path, strength: float = 1.0
) -> Path:
    """A complete pipeline folder with the edited UNet in place, and `erasure.json` on its origin.

    Args:
        strength: as in `Erasure.apply`.

    Raises:
        ValueError: the folder is not empty, or the erasure belongs to another model.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; name a new one")
    pipeline = model.to_pipeline(erasure.apply(model, strength))
    if folder.exists():
        folder.rmdir()
    with replacing(folder) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
        origin = {"base": erasure.base, "strength": strength, "provenance": erasure.provenance}
        write_text(temporary / "erasure.json", json.dumps(origin, indent=1) + "\n")
    return folder
