"""How much sooner two processes erase than one: `accelerate launch` on CPU cores, a thread each.

    python -m bench.processes --out bench/results/processes.json

Both make the same updates of the same examples and end with the same weights (tests/method/test_parallel.py).
The efficiency is the share of the ideal speed-up that is reached: 1 if N processes need an Nth.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys

from bench import measured

ERASE = ("-m", "esd_core", "erase", "a cat", "--json", "--device", "cpu")
LAUNCH = (
    "-m accelerate.commands.launch --multi_gpu --num_machines 1 --main_process_port 0 "
    "--mixed_precision no --dynamo_backend no"
).split()


def seconds(processes: int, updates: int) -> float:
    """Of one run, from its first trajectory to its last update; starting is not counted."""
    launched = (*LAUNCH, "--num_processes", str(processes)) if processes > 1 else ()
    made = subprocess.run(
        [sys.executable, *launched, *ERASE, f"--iterations={updates}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(made.stdout)["seconds"]


def main() -> None:
    given = parser().parse_args()
    times: dict[int, list[float]] = {1: [], given.processes: []}
    for _ in range(given.rounds):
        for count, taken in times.items():
            taken.append(seconds(count, given.updates))
    one, several = (statistics.median(taken) for taken in times.values())
    efficiency = one / several / given.processes
    print(f"one process {one:.1f} s, {given.processes} processes {several:.1f} s: {efficiency:.0%}")
    measured.write(
        {
            "machine": measured.MACHINE,
            "updates": given.updates,
            "efficiency": round(efficiency, 3),
            "seconds": {str(n): [round(s, 2) for s in taken] for n, taken in times.items()},
        },
        given.out,
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--processes", type=int, default=2)
    made.add_argument("--updates", type=int, default=32)
    made.add_argument("--rounds", type=int, default=3)
    return made


if __name__ == "__main__":
    main()
