"""Files: written so that a reader never sees them half done, and read without trusting them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FLOATS = ("F16", "BF16", "F32", "F64")  # float8 rounds a weight by more than most erasures change it
HEADER = 2**20  # bytes; that of Stable Diffusion's whole UNet has about 100 KB


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path for a file or folder; it becomes `path` if the block ends well, else goes.

    A file of that name is replaced; a folder must be empty.
    """
    path = Path(path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        yield Path(folder) / path.name
        os.replace(Path(folder) / path.name, path)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one piece."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> Path:
    """Write a safetensors file in one piece. ValueError if its name does not end in .safetensors."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path.name!r} must end in .safetensors")
    with replacing(path) as temporary:
        save_file({n: t.contiguous() for n, t in tensors.items()}, temporary, metadata)
    return path


def read_safetensors(path: str | Path, most: int | None = None) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors (as float32) of a file that may be a stranger's, of `most` bytes if that is given.
    Nothing is ever unpickled. ValueError, which does not tell the folder, if the file is missing, too large,
    damaged or empty, or holds something else than finite numbers of FLOATS."""
    path = Path(path)
    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"{path.name} is no .safetensors file; other formats may run code")
    if not path.is_file():
        raise ValueError(f"there is no file {path.name}")
    if most is not None and (size := path.stat().st_size) > most:
        raise ValueError(f"{path.name} has {size / 2**20:.1f} MB; files up to {most / 2**20:.4g} MB are read")
    tensors = {}
    try:
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > HEADER:
                raise SafetensorError("its header is too long")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            for name in file.keys():
                what, kind = f"{path.name}: tensor {name[:80]!r}", file.get_slice(name).get_dtype()
                if kind not in FLOATS:
                    raise ValueError(f"{what} is of type {kind}; use {', '.join(FLOATS)}")
                tensors[name] = file.get_tensor(name).float()
                if not bool(torch.isfinite(tensors[name]).all()):
                    raise ValueError(f"{what} is not made of finite floats")
    except (SafetensorError, OSError) as error:
        told = str(error).replace(str(path), path.name)
        raise ValueError(f"{path.name} is not a readable safetensors file: {told}") from error
    if not tensors:
        raise ValueError(f"{path.name} holds no tensors")
    return metadata, tensors
