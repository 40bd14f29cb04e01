"""Seconds per update, seconds until a concept is gone, and peak memory, of presets and methods.

Timings on shared machines drift. So every round times each preset and method in turn, and seconds
to erasure are the updates that it took (a fact of the seed) times the median seconds of an update.

    python -m bench.speed --out bench/results/speed.json --budget-seconds 3600

Results are kept as they come: the same command goes on where it stopped. `--replot` only draws.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import torch

from bench import measured, speed_report
from bench.judged import Watch
from bench.measured import Kept
from esd_core import DiffusionModel, Examples, denoise, erase, generate, load_model, preset
from esd_core.config import PRESETS
from esd_core.erasure import shared_copy
from esd_core.selection import TRAIN_METHODS, select
from tools import judge

TIMED_UPDATES = 8
FLOOR_TURNS = 8
LOOKS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1)  # shares of a run at which to look
BATCH = 8
# Whose peak memory is measured: training by `live`, and by the other presets where that is named.
TRAINING = {f"train {m}": ("live", m) for m in TRAIN_METHODS} | {
    f"train {m} {p}": (p, m) for p in PRESETS if p != "live" for m in ("esd-x", "esd-u")
}
JOBS = ("load", "sample", *TRAINING)


def time_methods(model: DiffusionModel, name: str, methods: list[str], seed: int) -> dict:
    """Per method, seconds before the first update and of each of a few updates."""
    times: dict[str, dict[str, float]] = {}
    drawn: Examples | None = None
    before = 0.0
    for method in methods:
        config = preset(name, "a cat", seed=seed, train_method=method, iterations=TIMED_UPDATES)
        kept = None if config.points == "last" else drawn  # the teacher does not know the method
        for step in erase(model, config, examples=kept):
            if step.iteration == 0:
                drawn, first = step.examples, step.seconds
                before = before if kept else first
        times[method] = {
            "before": before,
            "update": (step.seconds - first) / config.iterations,
            "examples": config.batch_size,
        }
    return times


def time_examples(model: DiffusionModel) -> dict[str, float]:
    """Seconds per example: of what ESD cannot do without, which is the student's forward and
    backward and two frozen evaluations, in batches as `live` uses them; and of `live` from its
    first trajectory to its last update, with nothing preserved."""
    unet = shared_copy(model.unet, select(model.unet, "esd-x"))
    for name in select(model.unet, "esd-x"):
        unet.get_parameter(name).requires_grad_()
    x_t = torch.randn(BATCH, *model.latent_shape())
    t, embeds = torch.full((BATCH,), 500), model.encode(["a cat"])
    taken = []
    for _ in range(FLOOR_TURNS):
        mark = time.perf_counter()
        with torch.no_grad():
            target, _ = denoise.predict_pair(model.unet, x_t, t, model.encode([""]), embeds)
        (denoise.predict(unet, x_t, t, embeds) - target).square().mean().backward()
        taken.append((time.perf_counter() - mark) / BATCH)
    config = preset("live", "a cat", preserve=0.0, train_method="esd-x")
    for step in erase(model, config):
        seconds = step.seconds
    plain = seconds / (config.iterations * config.batch_size)
    return {"example": median(taken[1:]), speed_report.PLAIN: plain}  # the first turn warms up


def watch_run(
    model: DiffusionModel, watch: Watch, name: str, method: str, concept: str, seed: int
) -> list[dict]:
    """What the judge sees during one whole run; stops once the concept is gone."""
    config = preset(name, f"a {concept}", train_method=method, seed=seed)
    looks = {max(1, round(share * config.iterations)) for share in LOOKS}
    marker, seen = judge.load_judge(), []
    for step in erase(model, config):
        if step.iteration in looks:
            found = watch.accuracy(model, marker, step.unet)
            seen.append({"updates": step.iteration, "measured seconds": step.seconds, **found})
            print(f"  {name} {method} {concept} seed {seed}: {seen[-1]}", flush=True)
            if found["concept"] == 0 and name != "live":
                break
    return seen


def peak_memory(job: str) -> float:
    """MB that a fresh process needs at most for `job`, one of JOBS."""
    command = [sys.executable, "-m", "bench.speed", "--job", job]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_job(job: str) -> float:
    """Do one thing in this process and say how much memory the process needed at most."""
    model = load_model("emoji")
    if job == "sample":
        generate(model, "a cat", seeds=range(BATCH))
    elif job != "load":
        name, method = TRAINING[job]
        for _ in erase(model, preset(name, "a cat", train_method=method, iterations=5)):
            pass
    return measured.peak()


Tasks = Iterator[tuple[str, Callable[[], Any]]]


def timing_tasks(model: DiffusionModel, presets: list[str], methods: list[str], round: int) -> Tasks:
    """One round of everything that is timed."""
    yield f"floor/{round}", partial(time_examples, model)
    for name in presets:
        yield f"timing/{name}/{round}", partial(time_methods, model, name, methods, round)


def watch_tasks(model: DiffusionModel, args: argparse.Namespace, seed: int) -> Tasks:
    """One run of every preset, method and concept."""
    for concept in args.concepts:
        watch = Watch.over(concept, args.pictures, 2 * args.pictures)
        yield f"base/{concept}", partial(watch.accuracy, model, judge.load_judge())
        for method in args.methods:
            for name in args.presets:
                run = partial(watch_run, model, watch, name, method, concept, seed)
                yield f"run/{name}/{method}/{concept}/{seed}", run


def tasks(args: argparse.Namespace) -> Tasks:
    """So ordered that stopping early leaves a little of everything."""
    model = load_model("emoji")
    methods = [m for m in args.timed_methods if fits(model, m)]
    generate(model, "a cat", seeds=[0])  # warm up
    for turn in range(max(args.rounds, args.seeds)):
        if turn < args.rounds:
            yield from timing_tasks(model, args.presets, methods, turn)
        if turn == 0:
            yield from ((f"memory/{job}", partial(peak_memory, job)) for job in JOBS)
        if turn < args.seeds:
            yield from watch_tasks(model, args, turn)


def fits(model: DiffusionModel, method: str) -> bool:
    """Whether the method selects anything in this UNet (`xlayer` needs one of three levels)."""
    try:
        return bool(select(model.unet, method))
    except ValueError:
        return False


def main(args: argparse.Namespace) -> None:
    """Measure what is missing until the budget is spent; summarise and draw what there is."""
    kept = Kept(args.out, f"{measured.MACHINE}, cpu")
    if not any(name.startswith("timing/") for name in kept.results):  # watches may use fewer
        kept.about(threads=torch.get_num_threads())
    if not args.replot:
        kept.measure(tasks(args), args.budget_seconds)
    summary = speed_report.summarise(kept.results)
    kept.about(summary=summary)
    print(speed_report.text(summary))
    speed_report.draw(kept.results, args.out.with_suffix(".png"))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "bench/results/speed.json", budget=True)
    made.add_argument("--rounds", type=int, default=5, help="of timing")
    made.add_argument("--seeds", type=int, default=3, help="of watched runs")
    made.add_argument("--concepts", nargs="+", default=["cat", "rocket", "pizza"])
    made.add_argument("--presets", nargs="+", default=list(PRESETS))
    made.add_argument("--methods", nargs="+", default=["esd-x", "esd-u"], help="watched")
    made.add_argument("--timed-methods", nargs="+", default=list(TRAIN_METHODS))
    made.add_argument("--pictures", type=int, default=24, help="of the concept per look")
    made.add_argument("--replot", action="store_true")
    made.add_argument("--job", choices=JOBS, help="internal: measure one job's memory")
    return made


if __name__ == "__main__":
    arguments = parser().parse_args()
    if arguments.job:
        print(run_job(arguments.job))
    else:
        main(arguments)
