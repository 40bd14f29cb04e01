"""How far the weights of one run differ where sums are taken in another order.

    python -m bench.rounding

Runs of `live` over four updates, each in a fresh process: again, with micro-batches, with two threads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

from bench import measured

UPDATES = 4
# Threads and micro-batch; the first is what the others are compared with.
WAYS = {  # 256: no micro-batches
    "one thread": (1, 256),
    "the same, again": (1, 256),
    "micro-batches of 4": (1, 4),
    "micro-batches of 1": (1, 1),
    "two threads": (2, 256),
}


def learn(threads: int, micro_batch_size: int, file: Path) -> None:
    """Erase a cat in this process, and leave the changed tensors."""
    import torch

    from esd_core import erase, load_model, preset

    torch.set_num_threads(threads)
    config = preset(
        "live", "a cat", iterations=UPDATES, micro_batch_size=micro_batch_size, train_method="esd-x"
    )
    *_, step = erase(load_model("emoji", device="cpu"), config)
    save_file(step.erasure.tensors, file)


def differences(folder: Path) -> dict[str, float]:
    """The largest difference of any weight from the first way's."""
    weights = []
    for number, way in enumerate(WAYS.values()):
        file = folder / f"{number}.safetensors"
        words = ["--one", *map(str, way), str(file)]
        subprocess.run([sys.executable, "-m", "bench.rounding", *words], check=True)
        weights.append(load_file(file))
    first = weights[0]
    return {
        name: max((first[n] - other[n]).abs().max().item() for n in first)
        for name, other in zip(WAYS, weights, strict=True)
    }


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    given = parser().parse_args()
    if given.one:
        learn(int(given.one[0]), int(given.one[1]), Path(given.one[2]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = differences(Path(folder))
        for name, difference in found.items():
            print(f"{name:28}{difference:.1e}")
        measured.write(
            {"machine": measured.MACHINE, "updates": UPDATES, "largest difference": found}, given.out
        )
