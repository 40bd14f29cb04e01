"""What an erasure removes and what it takes with it, marked by an independent classifier.

For every concept one run of a preset; then, from the same noise before and after: pictures of the
concept (an object in every style; a style or background with many objects) and of other concepts.
Marked by the independent judge (tools/judge.py) and by the model's own CLIP. The counterpart of the
paper's Table 2 on the embedded model.

    python -m bench.quality --preset live --out bench/results/quality-live.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from esd_core import DiffusionModel, Probe, erase, generate, load_model, preset
from esd_core.vocabulary import Concept
from tools import data, judge
from tools.catalog import OBJECTS

CONCEPTS = [
    "cat", "dog", "rocket", "butterfly", "apple", "pizza", "guitar", "house", "church",
    "parachute", "robot", "sunflower", *(f"{s} style" for s in data.STYLE_NAMES),
    "red background", "blue background", "yellow background",
]  # fmt: skip
PER_CONCEPT, OTHERS = 24, 60
NAMES = [o.name for o in OBJECTS]


def index_of(concept: Concept) -> tuple[int, int]:
    """The concept's place in a label: (part, number)."""
    part = ("object", "style", "background").index(concept.kind)
    names = (NAMES, data.STYLE_NAMES, data.BACKGROUND_NAMES)[part]
    return part, names.index(concept.name.removesuffix(f" {concept.kind}"))


def test_labels(concept: Concept, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Labels of pictures that show the concept, and of pictures that do not."""
    generator = torch.Generator().manual_seed(seed)
    part, number = index_of(concept)
    labels = data.sample_labels(PER_CONCEPT + 2 * OTHERS, generator, white=0.0)
    labels[:, 1] = torch.arange(len(labels)) % len(data.STYLE_NAMES)
    if concept.kind != "background":
        labels[:, 2] = -1
    shown, others = labels[:PER_CONCEPT].clone(), labels[PER_CONCEPT:]
    shown[:, part] = number
    return shown, others[others[:, part] != number][:OTHERS]


def draw(model: DiffusionModel, labels: Tensor, unet: UNet2DConditionModel | None) -> Tensor:
    """One picture per label; the same noise whatever the UNet."""
    prompts = [data.caption(*x) for x in labels.tolist()]
    parts = [
        generate(
            model, prompts[i : i + 32], seeds=range(i, i + len(prompts[i : i + 32])), unet=unet
        )
        for i in range(0, len(prompts), 32)
    ]
    return torch.cat(parts)


def marks(marker: judge.Judge, probe: Probe, images: Tensor, labels: Tensor, part: int) -> dict:
    """Share of pictures whose object (style, background) is the one asked for."""
    kind = ("object", "style", "background")[part]
    known = [c for c in probe.vocabulary.concepts if c.kind == kind]
    right = judge.correct(marker, images, labels)[kind].float().mean().item()
    return {
        "judge": right,
        "clip": probe.accuracy(images, [known[i] for i in labels[:, part].tolist()]),
    }


def evaluate(
    model: DiffusionModel, probe: Probe, marker: judge.Judge, name: str, settings: dict
) -> dict:
    """One erasure, before and after."""
    concept = probe.concept(name)
    part, _ = index_of(concept)
    shown, others = test_labels(concept)
    chosen = dict(settings)
    config = preset(chosen.pop("preset"), concept.phrase, **chosen)
    began = time.perf_counter()
    for step in erase(model, config):
        last = step
    row: dict = {"concept": name, "seconds": time.perf_counter() - began}
    before, after = {}, {}
    for group, labels in (("concept", shown), ("others", others)):
        pair = draw(model, labels, None), draw(model, labels, last.unet)
        before[group], after[group] = (marks(marker, probe, x, labels, part) for x in pair)
        row[f"{group} pixel change"] = (pair[0] - pair[1]).abs().mean().item()
        if part and group == "others":  # a style may go at the price of the objects
            before["objects"], after["objects"] = (marks(marker, probe, x, labels, 0) for x in pair)
    return {**row, "before": before, "after": after, "held_out_error": last.held_out_error()}


def table(rows: list[dict]) -> str:
    """A Markdown table of the judge's marks."""
    head = "erased|concept before|after|others before|after|CLIP: concept after|seconds"
    lines = [f"| {head.replace('|', ' | ')} |"]
    lines.append("|---" * 7 + "|")
    for r in rows:
        b, a = r["before"], r["after"]
        marks_ = (
            b["concept"]["judge"],
            a["concept"]["judge"],
            b["others"]["judge"],
            a["others"]["judge"],
        )
        cells = [f"{m:.0%}" for m in (*marks_, a["concept"]["clip"])]
        lines.append(f"| {r['concept']} | {' | '.join(cells)} | {r['seconds']:.1f} |")
    return "\n".join(lines)


def main(concepts: list[str], settings: dict, out: Path | None) -> list[dict]:
    """Evaluate every concept; print the table; write JSON."""
    model, marker = load_model("emoji"), judge.load_judge()
    probe = Probe(model)
    rows = []
    for name in concepts:
        rows.append(evaluate(model, probe, marker, name, settings))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        machine = f"{os.cpu_count()} cores, {platform.machine()}, {model.device.type}"
        out.write_text(
            json.dumps({"settings": settings, "machine": machine, "rows": rows}, indent=1) + "\n"
        )
        out.with_suffix(".md").write_text(table(rows) + "\n")
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--preset", default="live")
    parser.add_argument("--concepts", nargs="*", default=CONCEPTS)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="OPTION=VALUE", help="EraseConfig options"
    )
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    options = {k: json.loads(v) for k, v in (item.split("=", 1) for item in args.set)}
    main(args.concepts, {"preset": args.preset, **options}, args.out)
