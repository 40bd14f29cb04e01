"""Where the time of one `live` update goes: operators by their own share of the processor's time.

python -m bench.profile_update --out bench/results/profile-update.json
"""

from __future__ import annotations

import argparse

import torch
from torch.profiler import ProfilerActivity, profile

from bench import measured, trials
from esd_core import load_model

TOP = 12


def shares(updates: int) -> dict[str, dict[str, float]]:
    """operator -> share of the time of all operators, without those it calls, and calls/update."""
    work = trials.updating(load_model("emoji"))
    work()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(updates):
            work()
    rows = profiled.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    longest = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:TOP]
    found = {
        row.key: {"share": row.self_cpu_time_total / total, "calls": row.count / updates} for row in longest
    }
    rest = {"share": 1 - sum(r["share"] for r in found.values()), "calls": 0.0}
    return {**found, "all others": rest}


def main(args: argparse.Namespace) -> None:
    """Print the table and write it."""
    found = shares(args.updates)
    about = {"machine": f"{measured.MACHINE}, cpu", "threads": torch.get_num_threads()}
    for name, row in found.items():
        print(f"{name:55} {row['share']:6.1%} {row['calls']:6.0f} calls")
    measured.write({"about": {**about, "updates": args.updates}, "operators": found}, args.out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--updates", type=int, default=5)
    return made


if __name__ == "__main__":
    main(parser().parse_args())
