"""What placed training takes, beside the fine-tuning that `live` was: seconds of each part, and bytes.

In turn, several times, a run of each way for each concept, with nothing known before; the covariance of
what shall stay is kept, as it is after a model's first run.

    python -m bench.placed --out bench/results/placed.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from bench import measured
from esd_core import EraseConfig, erase, load_model, preset

WAYS = {"live": {}, "edit": {}, "live, esd-x": {"train_method": "esd-x"}}
CONCEPTS = ("a cat", "noto style", "a red background")


def run(model, config: EraseConfig) -> dict[str, float]:
    """Seconds before the first update and of the updates, and the file's kilobytes."""
    began, steps = time.perf_counter(), erase(model, config)
    first, ready = next(steps), time.perf_counter()
    *_, last = first, *steps
    done = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        size = last.erasure.save(Path(folder) / "erasure.safetensors").stat().st_size
    return {"begin": ready - began, "updates": done - ready, "kilobytes": size / 1000}


def main(rounds: int, out: Path | None) -> None:
    """Measure, print medians, and keep every run."""
    model = load_model("emoji", device="cpu")
    run(model, preset("edit", "a dog"))  # the first run of a process: warming up, and the covariance
    found = {concept: {way: [] for way in WAYS} for concept in CONCEPTS}
    for _ in range(rounds):
        for concept, ways in found.items():
            for way, options in WAYS.items():
                ways[way].append(run(model, preset(way.partition(",")[0], concept, **options)))
    for concept, ways in found.items():
        whole = {way: median(r["begin"] + r["updates"] for r in runs) for way, runs in ways.items()}
        for way, runs in ways.items():
            parts = {part: median(r[part] for r in runs) for part in runs[0]}
            share = whole[way] / whole["live, esd-x"]
            print(f"{concept:18} {way:12} {share:5.2f} of it:", *(f"{k} {v:.2f}" for k, v in parts.items()))
    measured.write({"machine": measured.MACHINE, "runs": found}, out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--rounds", type=int, default=3)
    return made


if __name__ == "__main__":
    main(**vars(parser().parse_args()))
