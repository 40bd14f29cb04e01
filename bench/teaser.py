"""The picture at the top of the README: one concept vanishes, its neighbours stay.

Top row the frozen model, bottom row after erasing, same prompts and same noise; in between, before any
update, the edit that is solved for.

    python -m bench.teaser --concept cat --out assets/teaser.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from bench import measured
from esd_core import erase, generate, load_model, preset
from esd_core.study import figures

OTHERS = ["a dog", "a tiger", "a fox", "a rocket", "a pizza"]
STYLES = ["fluent", "noto", "twemoji"]


def main(concept: str, seed: int, out: Path) -> None:
    """Erase and draw the sheet."""
    model = load_model("emoji")
    assert model.vocabulary is not None
    found = model.vocabulary.find(concept)
    assert found is not None, f"{concept} is not in the vocabulary"
    prompts = [f"{found.phrase} in {s} style" for s in STYLES] + [f"{o} in noto style" for o in OTHERS]
    seeds = range(seed, seed + len(prompts))
    config = preset("live", found.phrase)
    unets = {"before": None}
    for step in erase(model, config):
        if step.iteration in (0, config.iterations):
            unets["after" if step.iteration else "solved for"] = step.erasure.apply(model)
            print(f"update {step.iteration}: {step.seconds:.1f} s of erasing")
    rows = [
        generate(model, prompts, seeds=seeds, unet=unet, num_inference_steps=25) for unet in unets.values()
    ]
    columns = [f"{found.name}, {s}" for s in STYLES] + [o.split(" ", 1)[1] for o in OTHERS]
    figures.sheet(torch.stack(rows), list(unets), columns, scale=2).save(out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "assets/teaser.png")
    made.add_argument("--concept", default="cat")
    made.add_argument("--seed", type=int, default=2)
    return made


if __name__ == "__main__":
    main(**vars(parser().parse_args()))
