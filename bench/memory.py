"""How much memory a process has needed at most."""

from __future__ import annotations

from pathlib import Path

import torch


def peak(device: str = "cpu") -> float:
    """MB: on a GPU what torch's allocator gave out there, else what was resident.

    Not `ru_maxrss`: on Linux a child starts with its parent's, which hides its own.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
