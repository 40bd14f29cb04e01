"""What an erasure's time becomes when another one computes on the same cores.

    python -m bench.crowded

Threads of an update wait for each other some thousand times. They wait by spinning, which is the
fastest way as long as each has a core; beside another process the one that is waited for may be
the one that has none. `GOMP_SPINCOUNT` says how long a thread spins before it sleeps (GNU's OpenMP,
which PyTorch uses on Linux; 300,000 rounds where nothing is set).
`esd_core` sets what this finds, and the Makefile for notebooks, which load torch first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

from bench import measured

SPINS = ("300000", "30000", "10000", "1000")  # the first is the library's own
UPDATES = 6


def erasing() -> float:
    """Seconds of one short erasure of the embedded model, its examples included."""
    from esd_core import erase, load_model, preset

    model = load_model("emoji", device="cpu")
    started = time.perf_counter()
    for _ in erase(model, preset("live", "a cat", iterations=UPDATES, train_method="esd-x")):
        pass
    return time.perf_counter() - started


def at_once(processes: int, spins: str) -> float:
    """Seconds of so many erasures side by side, each in a process of its own; their mean."""
    environment = {**os.environ, "GOMP_SPINCOUNT": spins}
    command = [sys.executable, "-m", "bench.crowded", "--one"]
    running = [
        subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for _ in range(processes)
    ]
    return statistics.mean(float(process.communicate()[0]) for process in running)


def main() -> None:
    given = parser().parse_args()
    if given.one:
        print(erasing())
        return
    times: dict[str, tuple[list[float], list[float]]] = {s: ([], []) for s in SPINS}
    for _ in range(given.rounds):
        for spins, (alone, two) in times.items():
            alone.append(at_once(1, spins))
            two.append(at_once(2, spins))
    found = {spins: [statistics.median(taken) for taken in both] for spins, both in times.items()}
    print(*measured.head("GOMP_SPINCOUNT", "alone", "one of two at once"), sep="\n")
    for spins, medians in found.items():
        print(measured.line(spins, *(f"{taken:.1f} s" for taken in medians)))
    measured.write({"machine": measured.MACHINE, "seconds alone, beside another": found}, given.out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--rounds", type=int, default=3, help="medians of so many")
    made.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return made


if __name__ == "__main__":
    main()
