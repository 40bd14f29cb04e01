"""What was tried to make erasing cheaper, and what each gained.

Every trial is timed in turn with the plain way, round after round, and the ratio is taken within a
round: below 1 is faster. Both wall-clock and processor seconds are kept; the latter mind less what
else the machine is doing, if one thread is used (OMP_NUM_THREADS=1). `run` also says what a change
of the recipe does to the result: the target error on examples never trained on, and what the
independent judge still sees. Memory and `torch.compile` have processes of their own.

    python -m bench.tried --out bench/results/tried.json --budget-seconds 1200
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench import fresh, measured, trials, tried_report
from bench.judged import Watch
from bench.measured import Kept
from bench.recipes import RECIPES, Recipe
from esd_core import DiffusionModel, load_model, preset
from tools import judge

KINDS = ("update", "teacher", "memory", "compiled", "run")


def round_of(model: DiffusionModel, makers: dict[str, Callable]) -> dict[str, dict[str, float]]:
    """Seconds of every trial once, after one unmeasured go; each is made, timed and let go."""
    taken = {}
    for name, make in makers.items():
        work = make(model)
        work()
        taken[name] = measured.seconds(work)
    return taken


def one_run(model: DiffusionModel, watch: Watch, concept: str, recipe: Recipe, seed: int) -> dict:
    """A run, what it took and what it did."""
    config = preset("live", f"a {concept}", seed=seed, **recipe.of_former, train_method="esd-x")
    steps = []
    taken = measured.seconds(lambda: steps.append(recipe.train(model, config)))
    step = steps[0]
    found = watch.accuracy(model, judge.load_judge(), step.unet)
    error = step.held_out_error()
    return {"seconds": taken, "updates": step.iteration, "held-out error": error, **found}


def tasks(args: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Timing rounds first, then what needs processes of its own, then runs."""
    model = load_model("emoji")
    for turn in range(args.rounds):
        yield f"update/{turn}", partial(round_of, model, trials.UPDATES)
        yield f"teacher/{turn}", partial(round_of, model, trials.TEACHERS)
    for turn in range(args.processes):
        for name in fresh.MEMORY:
            yield f"memory/{name}/{turn}", partial(fresh.measured, f"memory/{name}")
    for name in fresh.COMPILED:
        yield f"compiled/{name}", partial(fresh.measured, f"compiled/{name}")
    watches = {c: Watch.over(c, args.pictures, 2 * args.pictures) for c in args.concepts}
    for seed in range(args.seeds):
        for name, recipe in RECIPES.items():
            for concept, watch in watches.items():
                run = partial(one_run, model, watch, concept, recipe, seed)
                yield f"run/{name}/{concept}/{seed}", run


def main(args: argparse.Namespace) -> None:
    """Measure what is missing until the budget is spent; summarise."""
    kept = Kept(args.out, f"{measured.MACHINE}, cpu")
    wanted = (task for task in tasks(args) if task[0].split("/")[0] in args.kinds)
    kept.measure(wanted, args.budget_seconds)
    summary = tried_report.summarise(kept.results)
    kept.about(summary=summary)
    report = tried_report.text(summary)
    args.out.with_suffix(".md").write_text(report + "\n")
    print(report)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "bench/results/tried.json", budget=True)
    made.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of trials")
    made.add_argument("--rounds", type=int, default=5, help="of timing")
    made.add_argument("--processes", type=int, default=2, help="that say how much memory")
    made.add_argument("--seeds", type=int, default=2, help="of runs")
    made.add_argument("--concepts", nargs="+", default=["cat", "rocket"])
    made.add_argument("--pictures", type=int, default=24, help="of the concept, after a run")
    return made


if __name__ == "__main__":
    main(parser().parse_args())
