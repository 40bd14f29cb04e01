"""Erasures from strangers: everything that the file's header tells is checked before a tensor is
read. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from esd_core.erasure import Erasure, check_shapes
from esd_core.formats import load_erasure
from esd_core.models import DiffusionModel

LARGEST = 512 * 2**20  # bytes; esd-x of Stable Diffusion 1.4 is 176 MB in float32, esd-u 3.3 GB
SLACK = 2 * 2**20  # bytes of a file that are no weights
HEADER = 2**20  # bytes; that of Stable Diffusion's whole UNet is about 100 KB
FLOATS = ("F16", "BF16", "F32")


def largest(model: DiffusionModel) -> int:
    """Bytes that an erasure's file may have: every weight in float32, but no more than LARGEST."""
    weights = sum(p.numel() for p in model.unet.parameters())
    return min(LARGEST, 4 * weights + SLACK)


def read_erasure(path: str | Path, model: DiffusionModel, most: int | None = None) -> Erasure:
    """An erasure for `model` from a file of unknown origin, ours or the authors'.

    Args:
        most: bytes that the file may have; `largest(model)` if None.

    Raises:
        ValueError: the file is no .safetensors, too large, damaged, or made for another model.
    """
    path = Path(path)
    header = read_header(path, largest(model) if most is None else most)
    header.pop("__metadata__", None)
    for name, entry in header.items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if dtype not in FLOATS:
            raise ValueError(
                f"{path.name}: tensor {name[:80]!r} is of type {str(dtype)[:20]}; use one of: "
                f"{', '.join(FLOATS)}"
            )
    check_shapes(model, {name: _shape(entry) for name, entry in header.items()})
    return load_erasure(path, model)


def read_header(path: Path, most: int = LARGEST) -> dict[str, Any]:
    """The JSON object at the head of a safetensors file: metadata, each tensor's type and shape.

    Raises:
        ValueError: as `read_erasure`.
    """
    if path.suffix != ".safetensors":
        raise ValueError(f"{path.name} is no .safetensors file; other formats may run code")
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path.name} has {size / 2**20:.1f} MB; files up to {most / 2**20:.4g} MB are read")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(HEADER, size - 8):
            raise ValueError(f"{path.name} is not a readable safetensors file: its header is wrong")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is not a readable safetensors file: its header is no JSON")
    return header


def _shape(entry: dict[str, Any]) -> tuple[int, ...]:
    shape = entry.get("shape")
    return tuple(shape) if isinstance(shape, list) else ()
