"""Updates per second and peak memory at Stable Diffusion's size, without its weights.

The models are those of `bench.sized`. Each figure comes from a fresh process; the first update,
which also warms up or compiles, is told apart from the others.

    python -m bench.sd_size --side 8 --updates 3 --methods esd-x     # on a CPU: small latents
    python -m bench.sd_size --side 8 --updates 3 --presets live-sd --methods esd-lora esd-x
    python -m bench.sd_size --side 64 --updates 2 --presets live --methods esd-x --dtype bfloat16 \
        --set micro_batch_size=1 batch_size=2 trajectories=1 num_inference_steps=2 held_out=0
    python -m bench.sd_size --arch sd-1.4 sdxl                       # on a GPU: the real size
    python -m bench.sd_size --presets live --compile                 # or --attention math
    python -m bench.sd_size --presets live --dtype float32 --set batch_size=16
    python -m bench.sd_size --presets live --repo erasing            # and the authors' own loop

Results are kept as they come: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench import measured, official, sized
from bench.measured import Kept
from esd_core import DiffusionModel, erase, preset, sample
from esd_core.config import PRESETS

SCRIPT = "authors' script"
BACKENDS = {
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "math": "MATH",
}
STILL = 1e-7  # a learning rate: random weights diverge at a real one


def paces(marks: list[float], whole: int) -> dict[str, float]:
    """What a run of `whole` updates costs, from the seconds before and after each of a few."""
    first, *rest = (after - before for before, after in pairwise(marks))
    each = mean(rest or [first])
    return {
        "seconds before": marks[0],
        "first update": first,
        "updates per second": 1 / each,
        "whole run": marks[1] + (whole - 1) * each,
        "200 updates": marks[1] + 199 * each,
    }


def sampling(model: DiffusionModel, job: dict[str, Any]) -> dict[str, float]:
    """Guided steps for one picture."""
    options = dict(seeds=[0], num_inference_steps=job["updates"] + 1, image_size=job["size"])
    marks = [time.perf_counter() for _ in sample(model, "a cat", **options)]
    return {"seconds per step": (marks[-1] - marks[0]) / (len(marks) - 1)}


def erasing(model: DiffusionModel, job: dict[str, Any]) -> dict[str, float]:
    """A few updates of a preset, from the first trajectory on."""
    options = {
        "train_method": job["method"],
        "iterations": job["updates"],
        "image_size": job["size"],
        "learning_rate": STILL,
        **job["options"],
    }
    marks, began = [], time.perf_counter()
    for step in erase(model, preset(job["preset"], "a cat", **options)):
        if step.iteration == 0 and job["compile"]:
            step.run.unet.compile()
        if model.device.type == "cuda":
            torch.cuda.synchronize()
        marks.append(time.perf_counter() - began)
    return paces(marks, preset(job["preset"], "a cat", train_method=job["method"]).iterations)


def our_job(job: dict[str, Any]) -> dict[str, float]:
    """One measurement in this process."""
    model = sized.build(job["arch"], job["device"], getattr(torch, job["dtype"]))
    loaded = measured.peak(job["device"])
    if job["compile"]:
        model.unet.compile()
    chosen = job["attention"] and SDPBackend.__members__[BACKENDS[job["attention"]]]
    with sdpa_kernel(chosen) if chosen else nullcontext():
        found = (sampling if job["preset"] == "sample" else erasing)(model, job)
    return {**found, "MB loaded": loaded, "peak MB": measured.peak(job["device"])}


def their_job(job: dict[str, Any]) -> dict[str, float]:
    """A few updates of the authors' script in this process; its loading is not counted."""
    official.run_inside(
        {
            **{k: job[k] for k in ("repo", "folder", "weights", "size", "method", "device")},
            "prompt": "a cat",
            "seed": 0,
            "iterations": job["updates"],
            "looks": [],
            "float32": job["dtype"] == "float32",
            "more": ["--lr", str(STILL)],
        }
    )
    times = json.loads((Path(job["folder"]) / "times.json").read_text())
    each = mean(after - before for before, after in pairwise(times["marks"]))
    return {"updates per second": 1 / each, "200 updates": 200 * each, "peak MB": times["peak MB"]}


def measure(job: dict[str, Any]) -> dict[str, float] | str:
    """In a fresh process; what it said if it failed, as running out of memory is a result too."""
    command = [sys.executable, "-m", "bench.sd_size", "--job", json.dumps(job)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return (made.stderr.strip().splitlines() or [f"exit code {made.returncode}"])[-1]
    return json.loads(made.stdout.splitlines()[-1])


def measure_theirs(job: dict[str, Any]) -> dict[str, float] | str:
    """Likewise, from random weights in a folder."""
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / "weights"
        sized.save_sd_14(weights, getattr(torch, job["dtype"]))
        return measure({**job, "folder": folder, "weights": str(weights)})


def tasks(args: argparse.Namespace) -> Iterator[tuple[str, partial]]:
    """A name and what to measure."""
    dtype = args.dtype or ("bfloat16" if args.device.startswith("cuda") else "float32")
    given = {k: json.loads(v) for k, v in (item.split("=", 1) for item in args.set)}
    extras = [
        *args.set,
        *(["compiled"] if args.compile else []),
        *([f"{args.attention} attention"] if args.attention else []),
    ]
    for arch in args.arch:
        common = dict(arch=arch, device=args.device, dtype=dtype, updates=args.updates)
        size = 8 * (args.side or sized.build_unet(arch).config.sample_size)
        ours = dict(options=given, compile=args.compile, attention=args.attention)
        where = f"{arch}/{dtype}/latents {args.side or 'own'}"
        for name, method in [("sample", ""), *((p, m) for m in args.methods for p in args.presets)]:
            job = dict(preset=name, method=method, size=size, **common, **ours)
            key = " ".join([f"{where}/{name}", method, ", ".join(extras)])
            yield " ".join(key.split()), partial(measure, job)
        if args.repo and arch == "sd-1.4":
            for method in args.methods:
                job = dict(preset=SCRIPT, method=method, size=size, repo=str(args.repo), **common)
                yield f"{where}/{SCRIPT} {method}", partial(measure_theirs, job)


def main(args: argparse.Namespace) -> None:
    """Measure what is missing, and print all of it."""
    on_gpu = args.device.startswith("cuda")
    kept = Kept(args.out, torch.cuda.get_device_name() if on_gpu else f"{measured.MACHINE}, cpu")
    wanted = list(tasks(args))
    kept.measure(wanted, args.budget_seconds)
    for key, _ in wanted:
        print(key, kept.results.get(key, "not measured"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "bench/results/sd_size.json", budget=True)
    made.add_argument("--arch", nargs="+", default=["sd-1.4"], choices=["sd-1.4", "sdxl"])
    made.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    made.add_argument("--methods", nargs="+", default=["esd-x", "esd-u"])
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    made.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], help="frozen weights")
    made.add_argument("--side", type=int, help="of the latents; default: the model's own")
    made.add_argument("--updates", type=int, default=10, help="per measurement")
    made.add_argument("--compile", action="store_true", help="teacher and student")
    made.add_argument("--attention", choices=BACKENDS, help="default: torch's choice")
    made.add_argument(
        "--set", nargs="*", default=[], metavar="OPTION=VALUE", help="EraseConfig options, as JSON values"
    )
    made.add_argument("--repo", type=Path, help="a clone of the authors' repository")
    made.add_argument("--job", type=json.loads, help="internal: measure one job")
    return made


if __name__ == "__main__":
    arguments = parser().parse_args()
    if arguments.updates < 2:
        parser().error("--updates: the first one is not counted; use 2 or more")
    if job := arguments.job:
        print(json.dumps((their_job if job["preset"] == SCRIPT else our_job)(job)))
    else:
        main(arguments)
