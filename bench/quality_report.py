"""The rows of bench/quality.py as tables and a plot."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.measured import head, line
from esd_core import Change
from esd_core.study import figures
from esd_core.study.intervals import bootstrap_mean
from esd_core.support.files import write_text

MARKERS = ("judge", "clip")
# Columns of what should stay. Styles and backgrounds have no neighbours; but do the objects stay?
KEPT_GROUPS = (("neighbours", "objects"), ("others",))
COLOURS = ("#2f5bd0", "#b45309", "#15803d", "#9333ea", "#be123c", "#0e7490", "#6b7280")


def name_of(settings: dict) -> str:
    """Settings in a few words."""
    rest = ", ".join(
        f"{k.replace('_', ' ')} {v:g}" if isinstance(v, int | float) else f"{k} {v}"
        for k, v in settings.items()
        if k != "preset"
    )
    return settings["preset"] + (f", {rest}" if rest else "")


def pooled(rows: Sequence[dict], marker: str, group: str) -> Change | None:
    """The counts of several runs added up; None if none has the group."""
    found = [r["marks"][marker][group] for r in rows if group in r["marks"][marker]]
    if not found:
        return None
    return Change(**{k: sum(f[k] for f in found) for k in found[0]})


def split(rows: Sequence[dict], *keys: str) -> dict[str, list[dict]]:
    """Rows by equal values of `keys`, in order of appearance."""
    parts: dict[str, list[dict]] = {}
    for row in rows:
        parts.setdefault(json.dumps([row[k] for k in keys], sort_keys=True), []).append(row)
    return parts


def averages(rows: Sequence[dict], marker: str, group: str) -> dict[str, tuple] | None:
    """Means over concepts (each over its seeds) with bootstrap bounds over concepts."""
    pools = [pooled(r, marker, group) for r in split(rows, "concept").values()]
    pools = [p for p in pools if p]
    if not pools:
        return None
    values = {
        "before": [p.before for p in pools],
        "after": [p.after for p in pools],
        "change": [p.after - p.before for p in pools],
    }
    return {k: (mean(v), *bootstrap_mean(v)) for k, v in values.items()}


def share(value: float, bounds: tuple[float, float]) -> str:
    """A share with its bounds."""
    return f"{value:.0%} ({bounds[0]:.0%} to {bounds[1]:.0%})"


def points(value: float, bounds: tuple[float, float]) -> str:
    """A change in percentage points with its bounds."""
    return f"{100 * value:+.0f} ({100 * bounds[0]:+.0f} to {100 * bounds[1]:+.0f})"


def cells(rows: Sequence[dict], marker: str) -> list[str]:
    """A table's cells for one concept by one marker."""
    change = pooled(rows, marker, "concept")
    made = [
        f"{change.before:.0%}",
        f"{share(change.after, change.intervals[1])} {change.verdict(erased=True)}",
    ]
    for groups in KEPT_GROUPS:
        change = next((c for g in groups if (c := pooled(rows, marker, g))), None)
        if change is None:
            made.append("")
            continue
        moved = points(change.after - change.before, change.intervals[2])
        made.append(f"{change.before:.0%} {moved} {change.verdict(erased=False)}")
    return made


def told(row: dict) -> str:
    """One run for the terminal."""
    parts = [f"{row['concept']:18}{name_of(row['settings'])}, seed {row['seed']}:"]
    for marker in MARKERS:
        shares = [
            f"{group} {c.before:.0%} > {c.after:.0%}"
            for group in ("concept", "neighbours", "others", "objects")
            if (c := pooled([row], marker, group))
        ]
        parts.append(f"{marker}: {', '.join(shares)};")
    return " ".join(parts) + f" {row['seconds']} s erasing, {row['row_seconds']} s in all"


def mean_cells(rows: Sequence[dict], marker: str) -> list[str]:
    """Likewise for the average over several concepts."""
    concept = averages(rows, marker, "concept")
    made = [f"{concept['before'][0]:.0%}", share(concept["after"][0], concept["after"][1:])]
    for groups in KEPT_GROUPS:
        found = next((a for g in groups if (a := averages(rows, marker, g))), None)
        change = found and points(found["change"][0], found["change"][1:])
        made.append(f"{found['before'][0]:.0%} {change}" if found else "")
    return made


def table(rows: Sequence[dict], marker: str) -> list[str]:
    """One setting: a line per concept and one of averages per kind."""

    def costs(group: list[dict]) -> list[str]:
        moved = mean(row["distances"]["others"]["pixels"] for row in group)
        return [f"{moved:.2f}", f"{mean(row['seconds'] for row in group):.1f}"]

    lines = head("erased", "runs", "concept before", "after", "neighbours / objects", "others", "moved", "s")
    for group in split(rows, "concept").values():
        lines.append(line(group[0]["concept"], len(group), *cells(group, marker), *costs(group)))
    for group in split(rows, "kind").values():
        if (concepts := len(split(group, "concept"))) > 1:
            name = f"**mean of {concepts} {group[0]['kind']}s**"
            lines.append(line(name, len(group), *mean_cells(group, marker), *costs(group)))
    return lines


def trade_off(rows: Sequence[dict], marker: str) -> list[str]:
    """A line per setting, over the concepts and seeds that all settings have."""
    kept = ("neighbours", "others", "objects")
    lines = head(
        "settings", "concepts", "concept after", *kept[:2], "objects of erased styles and backgrounds"
    )
    for group in split(common(rows), "settings").values():
        after = averages(group, marker, "concept")["after"]
        found = [averages(group, marker, g) for g in kept]
        changes = [points(a["change"][0], a["change"][1:]) if a else "" for a in found]
        concepts = len(split(group, "concept"))
        lines.append(line(name_of(group[0]["settings"]), concepts, share(after[0], after[1:]), *changes))
    return lines


def common(rows: Sequence[dict]) -> list[dict]:
    """The runs whose concept and seed every setting has."""
    settings = split(rows, "settings").values()
    shared = set.intersection(*({(r["concept"], r["seed"]) for r in group} for group in settings))
    return [r for r in rows if (r["concept"], r["seed"]) in shared]


def markdown(rows: Sequence[dict], machine: str = "") -> str:
    """Everything for a reader."""
    groups = list(split(rows, "settings").values())
    names = [name_of(group[0]["settings"]) for group in groups]
    lines = [
        f"# Quality: {'; '.join(names)}",
        "",
        f"Weights {rows[0]['model']}; {rows[0]['pictures']} pictures of each concept and run, "
        "half as many of its neighbours, twice as many of others, from the same noise before and "
        f"after. {machine}".rstrip(),
        "Brackets are 95 % intervals: of one concept over its pictures, of a mean over its "
        "concepts. What should stay: share recognised before, then the change in points; "
        "of erased styles and backgrounds, whether the objects stay. "
        "*moved*: how far others' pictures moved, if 1 is as far as two unrelated pictures. "
        "*s*: seconds of erasing.",
        "",
    ]
    for marker, title in zip(MARKERS, ("the independent judge", "the model's own CLIP"), strict=True):
        lines += [f"## By {title}", ""]
        if len(groups) > 1 and common(rows):
            lines += ["### Trade-off", "", *trade_off(rows, marker), ""]
        for name, group in zip(names, groups, strict=True):
            lines += [*([f"### {name}", ""] if len(groups) > 1 else []), *table(group, marker), ""]
    return "\n".join(lines)


def plot(rows: Sequence[dict], marker: str = "judge") -> Figure:
    """Erasure against collateral: a small dot per concept, a large one per setting."""
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for colour, group in zip(COLOURS * 9, split(common(rows), "settings").values(), strict=False):
        concepts = split(group, "concept").values()
        pools = [(pooled(r, marker, "concept"), pooled(r, marker, "others")) for r in concepts]
        x = [100 * c.after for c, _ in pools]
        y = [100 * (o.after - o.before) for _, o in pools]
        axes.scatter(x, y, s=12, color=colour, alpha=0.35, linewidths=0)
        centre, spread = [], []
        for values in (x, y):
            low, high = bootstrap_mean(values)
            centre.append(mean(values))
            spread.append([[max(0, mean(values) - low)], [max(0, high - mean(values))]])
        axes.errorbar(
            *([v] for v in centre),
            xerr=spread[0],
            yerr=spread[1],
            fmt="o",
            color=colour,
            capsize=2,
            label=name_of(group[0]["settings"]),
        )
    axes.set_xlim(-2, None)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -12), max(high, 3))  # a point or two shall look as small as it is
    axes.axhline(0, color=figures.HAIRLINE, zorder=0)
    axes.set_xlabel("erased concept still recognised after, % (left is better)")
    axes.set_ylabel("change of others, points (up is better)")
    axes.set_title(f"Erasure and collateral, by the {marker}", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write(rows: Sequence[dict], out: Path, machine: str) -> None:
    """OUT.json, OUT.md and OUT.png."""
    result = {"machine": machine, "rows": list(rows)}
    write_text(out.with_suffix(".json"), json.dumps(result, indent=1) + "\n")
    write_text(out.with_suffix(".md"), markdown(rows, machine))
    figures.save_png(plot(rows), out.with_suffix(".png"))
