"""Seconds per update and per run of the presets, interleaved in one process, and peak memory.

Timings on shared machines drift, so each round times every preset once and the ratios are taken
within a round. Peak memory is the largest resident size of a fresh process that only samples, or
only trains.

    python -m bench.speed --rounds 3 --out bench/results/speed.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from esd_core import DiffusionModel, erase, generate, load_model, preset

UPDATES = {"live": None, "paper": 12, "official-2025": 12}  # None: the whole run


def time_preset(
    model: DiffusionModel, name: str, updates: int | None, seed: int
) -> dict[str, float]:
    """Seconds per update, before the first update, and of the preset's whole run (extrapolated)."""
    full = preset(name, "a cat", seed=seed)
    config = preset(name, "a cat", seed=seed, iterations=updates or full.iterations)
    first = last = 0.0
    for step in erase(model, config):
        if step.iteration == 0:
            first = step.seconds
        last = step.seconds
    per_update = (last - first) / config.iterations
    return {
        "teacher": first,
        "per update": per_update,
        "per example": per_update / config.batch_size,
        "whole run": first + per_update * full.iterations,
    }


def peak_memory(job: str) -> float:
    """MB that a fresh process needs at most for `job` (see `--job`)."""
    command = [sys.executable, "-m", "bench.speed", "--job", job]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_job(job: str) -> float:
    """Do one thing in this process and say how much memory the process needed at most."""
    model = load_model("emoji")
    if job == "sample":
        generate(model, "a cat", seeds=range(8))
    elif job != "load":
        method = job.removeprefix("train ")
        for _ in erase(model, preset("live", "a cat", train_method=method, iterations=5)):
            pass
    return peak_resident()


def peak_resident() -> float:
    """MB. Not `ru_maxrss`: on Linux a child starts with its parent's, which hides its own."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(rounds: int, out: Path | None) -> None:
    """Time, measure, print, write."""
    model = load_model("emoji")
    generate(model, "a cat", seeds=[0])  # warm up
    times: dict[str, list[dict[str, float]]] = {name: [] for name in UPDATES}
    for seed in range(rounds):
        for name, updates in UPDATES.items():
            times[name].append(time_preset(model, name, updates, seed))
    median = {
        name: {k: statistics.median(r[k] for r in rows) for k in rows[0]}
        for name, rows in times.items()
    }
    ratios = {
        f"{name} / live": statistics.median(
            a["whole run"] / b["whole run"] for a, b in zip(times[name], times["live"], strict=True)
        )
        for name in UPDATES
        if name != "live"
    }
    memory = {job: peak_memory(job) for job in ("load", "sample", "train esd-x", "train esd-u")}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {model.device.type}"
    result = {
        "machine": machine, "date": time.strftime("%Y-%m-%d"), "median seconds": median,
        "whole run ratios": ratios, "peak MB": memory, "rounds": times,
    }  # fmt: skip
    print(json.dumps({k: v for k, v in result.items() if k != "rounds"}, indent=1))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--job", help="internal: measure one job's memory")
    args = parser.parse_args()
    if args.job:
        print(run_job(args.job))
    else:
        main(args.rounds, args.out)
