"""What an erasure removes and what it takes with it: the paper's Table 2 on the embedded model.

One run after another; of each, from the same noise before and after, pictures of the erased
concept, of its neighbours and of others (see `esd_core.evaluate`), marked by the model's own CLIP
and by the independent judge, which was trained on the real drawings only.

    python -m bench.quality --preset live    # 20 objects, every style, 3 backgrounds; one seed
    python -m bench.quality --preset paper --concepts cat church
    python -m bench.quality --concepts cat church --eta 1 3 10 --out bench/results/quality-eta
    python -m bench.quality --kinds style --from-objects none styles --out bench/results/quality-from-objects
    python -m bench.quality --concepts cat church --recipe plain "held at the concept's x_t" \
                            --out bench/results/quality-held
    python -m bench.quality --concepts cat --recipe "null space of values (SPEED)"  # a closed form of others

A finished run is a line in OUT.jsonl and is not repeated; OUT.json, OUT.md and OUT.png sum up what
is there. Other weights of the embedded model make new lines.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench import measured, quality_report
from bench.recipes import RECIPES
from esd_core import DiffusionModel, Gallery, Probe, evaluate, load_model, preset
from esd_core.study.evaluation import Marker
from esd_core.vocabulary import Concept
from tools import data, judge
from tools.catalog import OBJECTS

# Among them counterparts of the paper's classes: church, parachute, gas pump, truck, trumpet (for
# the French horn), fish (tench), dog (springer).
OBJECTS_ASKED = [
    *"cat dog rocket butterfly pizza guitar house church parachute sunflower".split(),
    "gas pump",
    *"truck fish trumpet apple robot umbrella crown owl snowman".split(),
]
STYLES = [f"{name} style" for name in data.STYLE_NAMES]
BACKGROUNDS = ["red background", "blue background", "yellow background"]
SEED_STEP = 100_000  # between the noises of two seeds


def judge_marker(network: judge.Judge) -> Marker:
    """The judge's word on what it was asked: object, style or background."""
    names = {
        "object": [o.name for o in OBJECTS],
        "style": STYLES,
        "background": [f"{name} background" for name in data.BACKGROUND_NAMES],
    }

    @torch.no_grad()
    def mark(images: Tensor, wanted: Sequence[Concept]) -> list[bool]:
        kind = wanted[0].kind
        seen = torch.cat([network(part)[kind] for part in images.split(256)]).argmax(1)
        asked = torch.tensor([names[kind].index(c.name) for c in wanted])
        return (seen == asked).tolist()

    return mark


class Bench:
    """The embedded model and everybody who has a say on its pictures, loaded once."""

    def __init__(self, model: DiffusionModel | None = None) -> None:
        self.model = model or load_model("emoji")
        self.machine = f"{measured.MACHINE}, {self.model.device.type}"
        self.probe, self.gallery = Probe.of(self.model), Gallery(self.model)
        self.markers = {"judge": judge_marker(judge.load_judge()), "clip": self.probe.recognises}

    def key(self, concept: str, settings: dict[str, Any], seed: int, pictures: int) -> dict:
        """What makes a run the same run."""
        return {
            "model": self.model.fingerprint,
            "concept": concept,
            "seed": seed,
            "pictures": pictures,
            "settings": settings,
        }

    def run(self, concept: str, settings: dict[str, Any], seed: int, pictures: int) -> dict:
        """One erasure, evaluated: a row."""
        began = time.perf_counter()
        found = self.probe.concept(concept)
        recipe = RECIPES[settings.get("recipe", "plain")]
        chosen = {k: v for k, v in settings.items() if k not in ("preset", "recipe")}
        options = {**recipe.options, **chosen, "seed": seed}
        last = recipe.train(self.model, preset(settings["preset"], found.phrase, **options))
        made = evaluate(
            self.gallery,
            self.probe,
            concept,
            last.unet,
            markers=self.markers,
            pictures=pictures,
            first_seed=SEED_STEP * seed,
        )
        return {
            **self.key(concept, settings, seed, pictures),
            "kind": found.kind,
            "seconds": round(last.seconds, 2),
            "row_seconds": round(time.perf_counter() - began, 2),
            "held_out_error": last.held_out_error(),
            "marks": {m: {g: asdict(c) for g, c in x.items()} for m, x in made.marks.items()},
            "distances": {g: asdict(d) for g, d in made.distances.items()},
        }


def finished(path: Path) -> list[dict]:
    """The rows of former sittings; a line that was cut off by a kill is none."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def work(bench: Bench, plan: Sequence[tuple[str, dict, int]], pictures: int, out: Path) -> list:
    """The plan's rows, of former sittings where there are."""
    kept, path = finished(out.with_suffix(".jsonl")), out.with_suffix(".jsonl")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_text().endswith("\n"):  # a kill cut the last line off
        with path.open("a") as file:
            file.write("\n")
    rows = []
    for number, (concept, settings, seed) in enumerate(plan, 1):
        key = bench.key(concept, settings, seed, pictures)
        row = next((r for r in kept if key.items() <= r.items()), None)
        if row is None:
            row = bench.run(concept, settings, seed, pictures)
            with path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{number}/{len(plan)} {quality_report.told(row)}", flush=True)
        rows.append(row)
        if number % 10 == 0 or number == len(plan):
            quality_report.write(rows, out, bench.machine)
    return rows


def plans(args: argparse.Namespace) -> list[tuple[str, dict, int]]:
    """(concept, settings, seed) for every run; all concepts and seeds of one setting before the next."""
    extra = {k: json.loads(v) for k, v in (item.split("=", 1) for item in args.set)}
    plain: dict[str, Any] = {"preset": args.preset, **extra}
    named = {"object": OBJECTS_ASKED, "style": STYLES, "background": BACKGROUNDS}
    concepts = args.concepts or [c for kind in args.kinds for c in named[kind]]
    names = ("train_method", "eta", "preserve", "from_objects", "recipe")
    knobs = {k: v for k in names if (v := getattr(args, k))}
    grid = [{**plain, **dict(zip(knobs, values, strict=True))} for values in product(*knobs.values())]
    return [(c, settings, seed) for settings in grid for seed in args.seeds for c in concepts]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "bench/results/quality-PRESET")
    made.add_argument("--preset", default="live")
    made.add_argument("--concepts", nargs="*", help="names such as cat 'noto style'")
    made.add_argument("--kinds", nargs="*", default=["object", "style", "background"])
    made.add_argument("--seeds", nargs="*", type=int, default=[0])
    made.add_argument("--train-method", nargs="*", help="one run each, default the preset's")
    made.add_argument("--eta", nargs="*", type=float, help="likewise")
    made.add_argument("--preserve", nargs="*", type=float, help="likewise")
    made.add_argument("--from-objects", nargs="*", help="likewise")
    made.add_argument("--recipe", nargs="*", choices=RECIPES, help="likewise; bench.recipes")
    made.add_argument(
        "--set",
        nargs="*",
        default=[],
        metavar="OPTION=VALUE",
        help="other EraseConfig options, as JSON values",
    )
    made.add_argument("--pictures", type=int, default=28, help="of each erased concept")
    return made


if __name__ == "__main__":
    given = parser().parse_args()
    name = given.out.name.replace("PRESET", given.preset)
    done = work(Bench(), plans(given), given.pictures, given.out.with_name(name).with_suffix(""))
    print(quality_report.markdown(done))
