"""Which style does the model draw when none is named? What an erased style falls back to.

The independent judge's word on pictures of objects alone: so much of a style is found even where a
perfect erasure has left no trace of its name.

    python -m bench.unnamed --out bench/results/unnamed.json
"""

from __future__ import annotations

import argparse
import json

from bench import measured
from bench.quality import Bench
from esd_core.study.questions import Ask, mixed

OBJECTS = 84  # pictures, one of each


def shares(bench: Bench) -> dict[str, float]:
    """Of each style, the share of the pictures that name none in which it is found."""
    styles = [c for c in bench.probe.vocabulary.concepts if c.kind == "style"]
    objects = mixed(bench.probe, "object")[:OBJECTS]
    pictures = bench.gallery.base([Ask(seed, (thing,)) for seed, thing in enumerate(objects)])
    found = {s.name: bench.markers["judge"](pictures, [s] * len(pictures)) for s in styles}
    return {name: round(sum(marks) / len(marks), 3) for name, marks in found.items()}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return measured.parser(__doc__)


if __name__ == "__main__":
    args = parser().parse_args()
    bench = Bench()
    result = {
        "machine": bench.machine,
        "model": bench.model.fingerprint,
        "pictures": OBJECTS,
        "shares": shares(bench),
    }
    print(json.dumps(result, indent=1))
    measured.write(result, args.out)
