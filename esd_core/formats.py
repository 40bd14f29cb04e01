"""Read and write other people's files: the authors' 2025 erasures and plain diffusers folders.

Safetensors only; nothing is ever unpickled.
"""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import save_file

from esd_core.erasure import Erasure, read_safetensors
from esd_core.models import DiffusionModel


def read_official(path: str | Path, model: DiffusionModel) -> Erasure:
    """What `esd_sd.py` (rohitgandikota/erasing, 2025) saves: trained tensors under UNet names.

    The file does not say which model it was made for, so only names and shapes are checked.

    Raises:
        ValueError: the file is damaged or does not fit `model`.
    """
    _, tensors = read_safetensors(path)
    provenance = {"format": "official-2025", "file": Path(path).name, "model": "not recorded"}
    erasure = Erasure(tensors, "", provenance)
    erasure.check(model)
    return erasure


def write_official(erasure: Erasure, path: str | Path) -> Path:
    """The same file as `esd_sd.py` saves: no metadata; its loader takes it as it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({n: t.contiguous() for n, t in erasure.tensors.items()}, temporary)
    os.replace(temporary, path)
    return path


def write_diffusers(
    model: DiffusionModel, erasure: Erasure, folder: str | Path, strength: float = 1.0
) -> Path:
    """A complete diffusers pipeline folder with the edited UNet in place.

    Raises:
        ValueError: the folder is not empty, or the erasure belongs to another model.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name a new folder")
    model.to_pipeline(erasure.apply(model, strength)).save_pretrained(folder)
    return folder
