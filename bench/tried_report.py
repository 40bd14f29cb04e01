"""From the measurements of `bench.tried` to tables."""

from __future__ import annotations

from collections import defaultdict
from statistics import median
from typing import Any

from bench.measured import head, line
from bench.recipes import RECIPES
from bench.speed_report import parts, spread
from esd_core import preset

CLOCKS = ("wall", "processor")


def ratios(results: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """trial -> clock -> seconds as a ratio to the plain way of the same round."""
    rounds = [(kind, found) for kind in ("update", "teacher") for _, found in parts(results, kind)]
    for (kind,), found in parts(results, "compiled"):
        rounds += [(kind, found_then) for found_then in found.get("rounds", [])]
    values: dict = defaultdict(lambda: defaultdict(list))
    for kind, found in rounds:
        for trial, seconds in found.items():
            for clock in CLOCKS:
                values[f"{kind}: {trial}"][clock].append(seconds[clock] / found["plain"][clock])
    return {
        name: {clock: {**spread(v), "rounds": len(v)} for clock, v in clocks.items()}
        for name, clocks in values.items()
    }


def compiling(results: dict[str, Any]) -> dict[str, Any]:
    """What the first go with `torch.compile` takes longer than a plain one, or why it failed."""
    found = {}
    for (kind,), row in parts(results, "compiled"):
        first = row.get("first")
        found[kind] = (
            row["failed"]
            if first is None
            else {clock: first["torch.compile"][clock] - first["plain"][clock] for clock in CLOCKS}
        )
    return found


def memory(results: dict[str, Any]) -> dict[str, dict[str, float]]:
    """trial -> stage -> MB at most, the median of the processes."""
    rows: dict = defaultdict(list)
    for (name, _), row in parts(results, "memory"):
        rows[name].append(row)
    return {
        name: {"processes": len(r), **{k: median(x[k] for x in r) for k in r[0]}} for name, r in rows.items()
    }


def updates_of(name: str, rows: list[dict]) -> float:
    """How many updates a recipe makes: measured if it decides itself."""
    made = [row["updates"] for row in rows if "updates" in row]
    options = RECIPES[name].of_former
    return median(made) if made else preset("live", "a cat", **options, train_method="esd-x").iterations


def runs(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """recipe -> medians; the judge's findings also as differences to the plain run of that seed."""
    found = {(name, concept, seed): row for (name, concept, seed), row in parts(results, "run")}
    beside = "plain, again"  # where it was made, times are compared with that run's
    rows: dict = defaultdict(list)
    names = list(RECIPES)
    for (name, *which), row in found.items():
        late = names.index(name) >= names.index(beside) and (beside, *which) in found
        plain = found["plain", *which]
        timed = found[beside, *which] if late and name != beside else plain
        rows[name].append(
            {
                **{k: v for k, v in row.items() if k != "seconds"},
                **{clock: row["seconds"][clock] / timed["seconds"][clock] for clock in CLOCKS},
                **{f"{k} - plain": row[k] - plain[k] for k in ("concept", "others")},
            }
        )
    table = {}
    for name, of in rows.items():
        table[name] = {k: spread([r[k] for r in of]) for k in of[0] if k != "updates"}
        table[name] |= {"runs": len(of), "updates": updates_of(name, of)}
    return table


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Every figure of the report."""
    return {
        "seconds, as a ratio to plain": ratios(results),
        "seconds to compile": compiling(results),
        "MB": memory(results),
        "runs": runs(results),
    }


def text(summary: dict[str, Any]) -> str:
    """As Markdown tables."""
    lines = head("trial", "processor time, plain = 1", "least to greatest", "wall")
    for name, clocks in summary["seconds, as a ratio to plain"].items():
        r, wall = clocks["processor"], clocks["wall"]["median"]
        span = f"{r['least']:.2f} to {r['greatest']:.2f}"
        lines.append(line(name, f"{r['median']:.2f}", span, f"{wall:.2f}"))
    lines.append("")
    for kind, spent in summary["seconds to compile"].items():
        said = spent if isinstance(spent, str) else f"{spent['processor']:.0f} processor seconds"
        lines += [f"Compiling for the {kind}: {said}.", ""]
    lines += head("update in a fresh process, peak MB", "drawing", "between", "updates", "processes")
    for name, r in summary["MB"].items():
        peaks = (f"{r[stage]:.0f}" for stage in ("examples", "rest", "updates"))
        lines.append(line(name, *peaks, r["processes"]))
    lines += [
        "",
        *head(
            "run",
            "updates",
            "processor time, plain = 1",
            "held-out error",
            "concept seen",
            "others seen",
            "others, against plain",
            "runs",
        ),
    ]
    for name, r in summary["runs"].items():
        lost = {k: f"{100 * v:+.0f}" for k, v in r["others - plain"].items()}
        lines.append(
            line(
                name,
                f"{r['updates']:g}",
                f"{r['processor']['median']:.2f}",
                f"{r['held-out error']['median']:.2f}",
                f"{r['concept']['median']:.0%}",
                f"{r['others']['median']:.0%}",
                f"{lost['median']} ({lost['least']} to {lost['greatest']}) points",
                r["runs"],
            )
        )
    return "\n".join(lines)
