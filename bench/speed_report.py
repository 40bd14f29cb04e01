"""From the measurements of `bench.speed` to a table and a plot."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from esd_core.config import preset
from esd_core.study.figures import ACCENT, FAINT, HAIRLINE, save_png

GONE, SPARED = 0.10, 0.05  # of pictures: the concept still seen, the others lost
PLAIN = "live, preserving nothing"
COLOURS = {"live": ACCENT, "live-sd": "#8a4fbf", "official-2025": "#c05a12", "paper": "#3f8f5b"}
LINES = {"esd-x": "-", "esd-u": "--"}


def parts(results: dict[str, Any], kind: str) -> list[tuple[list[str], Any]]:
    """Measurements of a kind: the rest of their names, split, and what was measured."""
    return [(k.split("/")[1:], v) for k, v in results.items() if k.startswith(f"{kind}/")]


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": median(values), "least": min(values), "greatest": max(values)}


def timings(results: dict[str, Any]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """preset -> method -> what -> one value per round."""
    found: dict = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for (name, _), methods in parts(results, "timing"):
        for method, row in methods.items():
            for what, value in row.items():
                found[name][method][what].append(value)
    return found


def seconds(times: dict, name: str, method: str, updates: int) -> float:
    """Of a run until then, by the medians."""
    row = times[name][method]
    return median(row["before"]) + updates * median(row["update"])


def reached(looks: list[dict], base: dict[str, float]) -> int | None:
    """Updates until the concept was gone with the others spared, or None if that never came."""
    for look in looks:
        if look["concept"] < GONE and look["others"] >= base["others"] - SPARED:
            return look["updates"]
    return None


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Medians and spread; every figure of the report."""
    times = timings(results)
    per_update = {
        name: {m: spread(row["update"]) for m, row in methods.items()} for name, methods in times.items()
    }
    summary: dict[str, Any] = {
        "seconds per update": per_update,
        "seconds before the first update": {
            name: spread(next(iter(methods.values()))["before"]) for name, methods in times.items()
        },
        "peak MB": {job: value for (job,), value in parts(results, "memory")},
        "to erasure": erasures(results, times),
    }
    if floors := [v for _, v in parts(results, "floor")]:
        summary["seconds per example"] = costs(times, floors)
    if "sample" in summary["peak MB"]:
        base = summary["peak MB"]["sample"]
        summary["peak memory / sampling"] = {k: v / base for k, v in summary["peak MB"].items()}
    return summary


def costs(times: dict, floors: list[dict[str, float]]) -> dict[str, float]:
    """Seconds per erasing example over a whole esd-x run, and against the method's floor."""
    floor, plain = (median(row[what] for row in floors) for what in ("example", PLAIN))
    ratio = median(row[PLAIN] / row["example"] for row in floors)  # each within its round
    found = {"floor": floor, PLAIN: plain, f"{PLAIN} / floor": ratio}
    for name in times:
        if "esd-x" in times[name]:
            config = preset(name, "a cat")
            examples = config.iterations * config.batch_size
            cost = seconds(times, name, "esd-x", config.iterations) / examples
            found |= {name: cost, f"{name} / floor": cost / floor}
    return found


def erasures(results: dict[str, Any], times: dict) -> dict[str, Any]:
    """Per preset and method: runs that got there, and seconds of each (None: never)."""
    found: dict = defaultdict(lambda: {"runs": 0, "reached": 0, "updates": [], "seconds": []})
    for (name, method, concept, _), looks in parts(results, "run"):
        row = found[f"{name} {method}"]
        updates = reached(looks, results[f"base/{concept}"])
        row["runs"] += 1
        row["reached"] += updates is not None
        row["updates"].append(updates)
        row["seconds"].append(updates and seconds(times, name, method, updates))
    for key, row in found.items():
        name, method = key.split(" ")
        whole = seconds(times, name, method, preset(name, "a cat").iterations)
        row["whole run"] = whole
        # A run that never got there counts as longer than its whole: the median is then a bound.
        reached_in = [s if s is not None else float("inf") for s in row["seconds"]]
        middle = median(reached_in)
        row["median"] = middle if middle < float("inf") else None
    for key, row in found.items():
        name, method = key.split(" ")
        mine = found.get(f"live {method}", {}).get("median")
        if name != "live" and mine:
            row["times live"] = (row["median"] or row["whole run"]) / mine
            row["times live is a lower bound"] = row["median"] is None
    return dict(found)


def text(summary: dict[str, Any]) -> str:
    """The summary as a reader wants it."""
    lines = ["preset         method        s / update (least - greatest)"]
    for name, methods in summary["seconds per update"].items():
        for method, s in methods.items():
            line = f"{name:15}{method:14}{s['median']:.3f} ({s['least']:.3f} - {s['greatest']:.3f})"
            lines.append(line)
    for key, row in summary["to erasure"].items():
        took = "never" if row["median"] is None else f"{row['median']:.1f} s"
        line = f"{key}: erased in {row['reached']} of {row['runs']} runs, median {took}"
        line += f" (a whole run: {row['whole run']:.0f} s)"
        if "times live" in row:
            sign = ">" if row["times live is a lower bound"] else ""
            line += f"; {sign}{row['times live']:.0f} times live's"
        lines.append(line)
    for part in ("peak MB", "peak memory / sampling", "seconds per example"):
        figures = ", ".join(f"{k} {v:.3g}" for k, v in summary.get(part, {}).items())
        lines.append(f"{part}: {figures}")
    return "\n".join(lines)


def draw(results: dict[str, Any], path: Path) -> None:
    """Erasure and collateral against seconds: a curve per preset and method, over all runs.

    Only the methods of LINES: more curves hide each other.
    """
    times = timings(results)
    curves: dict = defaultdict(lambda: defaultdict(list))
    for (name, method, concept, _), looks in parts(results, "run"):
        if method not in LINES:
            continue
        base = results[f"base/{concept}"]
        for look in looks:
            at = seconds(times, name, method, look["updates"])
            lost = base["others"] - look["others"]
            curves[name, method][at].append((look["concept"], lost))
    if not curves:
        return
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    titles = ("the erased object is still drawn", "other objects lost")
    limits = (GONE, SPARED)
    for index, (panel, title, limit) in enumerate(zip(panels, titles, limits, strict=True)):
        for (name, method), looks in sorted(curves.items()):
            at = sorted(looks)
            values = [[pair[index] for pair in looks[s]] for s in at]
            colour = COLOURS[name]
            panel.plot(
                at,
                [100 * median(v) for v in values],
                LINES[method],
                color=colour,
                marker="o",
                markersize=3,
                label=f"{name}, {method}",
            )
            low, high = ([100 * pick(v) for v in values] for pick in (min, max))
            panel.fill_between(at, low, high, color=colour, alpha=0.12, linewidth=0)
        panel.axhline(100 * limit, color=FAINT, linewidth=0.8, linestyle=":")
        panel.set_xscale("log")
        panel.set_xlabel("seconds", color=FAINT)
        panel.xaxis.set_major_formatter("{x:g}")
        panel.set_title(f"{title} (% of pictures)", fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color=HAIRLINE, linewidth=0.6)
    panels[0].set_ylim(-3, 103)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=9
    )
    save_png(figure, path)
