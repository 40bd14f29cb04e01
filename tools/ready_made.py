"""Make the erasures that ship with the app, so that Compare has something to show at once.

They belong to the weights they were made from: run this again whenever `assets/emoji` changes (the
app leaves out what does not fit). They are what the app's own preset makes, LoRAs of 27 KB each.

    python -m tools.ready_made
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from esd_core import DiffusionModel, Erasure, card, erase, load_model, preset, probe

OUT = Path("assets/erasures")
CONCEPTS = ("cat", "rocket", "pizza", "fluent style", "monochrome style")
TEST_SEEDS = range(100, 104)  # of the pictures that are scored


def make(model: DiffusionModel, phrase: str) -> Erasure:
    """Run it to the end, and leave out how long it took, which is never the same."""
    *_, last = erase(model, preset("live", phrase))
    made = last.erasure
    return replace(made, provenance={k: v for k, v in made.provenance.items() if k != "seconds"})


def write(model: DiffusionModel, concepts: Sequence[str], out: Path = OUT) -> list[Path]:
    """One file per concept of the model's vocabulary; files of other runs are removed.

    Raises:
        ValueError: the vocabulary has no such concept.
    """
    assert model.vocabulary is not None
    phrases = {}
    for name in concepts:
        if (found := model.vocabulary.find(name)) is None:
            raise ValueError(f"{name!r} is no concept of {model.name!r}")
        phrases[name] = found.phrase
    made = []
    for name, phrase in phrases.items():
        path = out / f"{name.replace(' ', '-')}.safetensors"
        made.append(make(model, phrase).save(path))
    for path in set(out.glob("*.safetensors")) - set(made):
        path.unlink()
    return made


def report(model: DiffusionModel, path: Path) -> str:
    """What the model's own CLIP says of the concept and its neighbours, before and after."""
    erasure = Erasure.load(path)
    phrase = card.concepts(erasure)[0]
    lines = [f"{path} ({path.stat().st_size / 1e3:.0f} KB), presence of {phrase!r}:"]
    unets = (None, erasure.apply(model))
    before, after = (probe(model, phrase, unet=unet, seeds=TEST_SEEDS) for unet in unets)
    for a, b in zip(before, after, strict=True):
        named = "" if a.accuracy is None else f", named right {a.accuracy:.0%} -> {b.accuracy:.0%}"
        lines.append(f"  {a.group:13} {a.presence:+.3f} -> {b.presence:+.3f}{named}")
    return "\n".join(lines)


def main(concepts: Sequence[str], out: Path, reported: bool) -> None:
    """Write the files; then, if asked, say how well each does."""
    model = load_model("emoji")
    paths = write(model, concepts, out)
    print("\n".join(map(str, paths)))
    if reported:
        for path in paths:
            print(report(model, path), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=CONCEPTS)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--report", action="store_true", help="score before and after (minutes)")
    args = parser.parse_args()
    main(args.concepts, args.out, args.report)
