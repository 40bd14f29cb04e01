"""What options of the authors' 2023 script `train-esd.py` (rohitgandikota/erasing) mean here."""

from __future__ import annotations

from pathlib import Path

from esd_core.cli.command_options import note


def model_folder(ckpt_path: str | None) -> str | None:
    """The model that `--ckpt_path` names, if it is one we read."""
    if ckpt_path is None or Path(ckpt_path).is_dir():
        return ckpt_path
    raise ValueError(
        f"--ckpt_path {ckpt_path}: a CompVis checkpoint cannot be read without unpickling it, "
        "which may run code; give --model a folder or Hub id in diffusers layout instead"
    )


def device(devices: str | None) -> str | None:
    """The first of `--devices 0,0`, as a torch device; the CPU, with a note, where CUDA is absent.

    Frozen and edited model share their weights here, so one device serves both.
    """
    if devices is None:
        return None
    import torch

    first = devices.split(",")[0].strip()
    if not first.isdecimal():
        raise ValueError(f"--devices is {devices!r}; use numbers such as 0,0, or --device cpu")
    if not torch.cuda.is_available():
        note(f"note: --devices {devices}: there is no CUDA here; running on the CPU")
        return "cpu"
    return f"cuda:{first}"
