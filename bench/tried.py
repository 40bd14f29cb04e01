"""What was tried to make erasing cheaper, and what each gained.

Every trial is timed in turn with the plain way, round after round, and the ratio is taken within a
round: below 1 is faster. Both wall-clock and processor seconds are kept; the latter do not mind
what else the machine is doing, if one thread is used (OMP_NUM_THREADS=1). `runs` also says what a
change of the recipe does to the result: the target error on examples never trained on, and what
the independent judge still sees.

    python -m bench.tried --out bench/results/tried.json --budget-seconds 1200
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench import trials
from bench.judged import Watch
from bench.kept import Kept
from bench.written import MACHINE
from esd_core import DiffusionModel, erase, load_model, preset
from tools import judge


def round_of(model: DiffusionModel, makers: dict[str, Callable]) -> dict[str, dict[str, float]]:
    """Seconds of every trial once, after one unmeasured go; each is made, timed and let go."""
    seconds = {}
    for name, make in makers.items():
        work = make(model)
        work()
        wall, processor = time.perf_counter(), time.process_time()
        work()
        seconds[name] = {
            "wall": time.perf_counter() - wall, "processor": time.process_time() - processor
        }  # fmt: skip
    return seconds


def one_run(model: DiffusionModel, watch: Watch, concept: str, options: dict, seed: int) -> dict:
    """A run, what it took and what it did."""
    wall, processor = time.perf_counter(), time.process_time()
    *_, step = erase(model, preset("live", f"a {concept}", seed=seed, **options))
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    found = watch.accuracy(model, judge.load_judge(), step.unet)
    error = step.held_out_error()
    return {"seconds": seconds, "held-out error": error, **found}


def tasks(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Timing rounds first, then runs."""
    model = load_model("emoji")
    for turn in range(args.rounds):
        yield f"update/{turn}", partial(round_of, model, trials.UPDATES)
        yield f"teacher/{turn}", partial(round_of, model, trials.TEACHERS)
    for seed in range(args.seeds):
        for concept in args.concepts:
            watch = Watch.over(concept, args.pictures, 2 * args.pictures)
            for name, options in trials.RUNS.items():
                run = partial(one_run, model, watch, concept, options, seed)
                yield f"run/{name}/{concept}/{seed}", run


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Ratios to the plain way within a round: median, least, greatest; medians over runs."""
    ratios: dict = defaultdict(lambda: defaultdict(list))
    runs: dict = defaultdict(list)
    for key, found in results.items():
        kind, name, *which = key.split("/")
        if kind == "run":
            plain = results[f"run/plain/{which[0]}/{which[1]}"]["seconds"]
            measured = {k: v for k, v in found.items() if k != "seconds"}
            spent = {clock: found["seconds"][clock] / plain[clock] for clock in plain}
            runs[name].append({**measured, **spent})
        else:
            for trial, seconds in found.items():
                for clock, value in seconds.items():
                    ratios[f"{kind}: {trial}"][clock].append(value / found["plain"][clock])
    return {
        "seconds, as a ratio to plain": {
            name: {
                clock: {"median": median(v), "least": min(v), "greatest": max(v), "rounds": len(v)}
                for clock, v in clocks.items()
            }
            for name, clocks in ratios.items()
        },
        "runs": {
            name: {"runs": len(rows), **{k: median(r[k] for r in rows) for k in rows[0]}}
            for name, rows in runs.items()
        },
    }


def text(summary: dict[str, Any]) -> str:
    """As Markdown tables."""
    lines = ["| trial | processor time, plain = 1 | least to greatest | wall |", "|---" * 4 + "|"]
    for name, clocks in summary["seconds, as a ratio to plain"].items():
        r, wall = clocks["processor"], clocks["wall"]["median"]
        span = f"{r['least']:.2f} to {r['greatest']:.2f}"
        lines.append(f"| {name} | {r['median']:.2f} | {span} | {wall:.2f} |")
    lines += [
        "",
        "| run | processor time, plain = 1 | held-out error | concept seen | others seen |",
    ]
    lines.append("|---" * 5 + "|")
    for name, r in summary["runs"].items():
        cells = f"{r['processor']:.2f} | {r['held-out error']:.2f} | {r['concept']:.0%}"
        lines.append(f"| {name} | {cells} | {r['others']:.0%} |")
    return "\n".join(lines)


def main(args: argparse.Namespace) -> None:
    """Measure what is missing until the budget is spent; summarise."""
    kept = Kept(args.out, f"{MACHINE}, cpu")
    kept.measure(tasks(args), args.budget_seconds)
    summary = summarise(kept.results)
    kept.about(summary=summary)
    args.out.with_suffix(".md").write_text(text(summary) + "\n")
    print(text(summary))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results/tried.json"))
    parser.add_argument("--budget-seconds", type=float, default=float("inf"),
                        help="begin nothing new after that many")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="of timing")
    parser.add_argument("--seeds", type=int, default=2, help="of runs")
    parser.add_argument("--concepts", nargs="+", default=["cat", "rocket"])
    parser.add_argument("--pictures", type=int, default=24, help="of the concept, after a run")
    main(parser.parse_args())
