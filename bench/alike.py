"""What the model finds alike: by the phrases of objects, and by its own pictures of them.

`live` holds the objects whose phrases are most similar to the erased one's, those of its category
first. The recipe "what is alike is held" takes the most similar of all objects, by phrase and by
picture, which count the same.

    python -m bench.alike    # how many of the twelve are the same; draws all objects, once
    python -m bench.quality --concepts cat church --recipe plain "what is alike is held" \
                            --out bench/results/quality-alike
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from bench import measured
from esd_core import DiffusionModel, EraseConfig, Gallery, Probe, load_model
from esd_core.prompts import HELD, NEIGHBOURS, neighbours, prompts_to_hold
from esd_core.study.questions import Ask

EACH = 4  # pictures of an object


def looks(model: DiffusionModel) -> dict[str, Tensor]:
    """The mean image embedding of each object's pictures, unit vectors `(D,)`; drawn once."""
    path = Path("outputs") / f"looks-{model.fingerprint}.safetensors"
    if not path.exists():
        probe, gallery, found = Probe.of(model), Gallery(model), {}
        for thing in probe.vocabulary.of_kind("object"):
            drawn = gallery.edited([Ask(seed, (thing,)) for seed in range(EACH)], None)
            found[thing.name] = F.normalize(probe.embed_images(drawn).mean(0), dim=0)
        path.parent.mkdir(exist_ok=True)
        save_file(found, path)
    return load_file(path)


def alike(probe: Probe, name: str, pictures: dict[str, Tensor]) -> list[str]:
    """The phrases of all other objects, the most similar first."""
    objects = probe.vocabulary.of_kind("object")
    texts = torch.stack([probe.text[c] for c in objects])
    drawn = torch.stack([pictures[c.name] for c in objects])
    by_phrase, by_picture = texts @ probe.text[probe.concept(name)], drawn @ pictures[name]
    likeness = by_phrase / by_phrase.std() + by_picture / by_picture.std()
    order = likeness.argsort(descending=True).tolist()
    return [objects[i].phrase for i in order if objects[i].name != name]


def holding(model: DiffusionModel, config: EraseConfig) -> EraseConfig:
    """The same run, which holds as many prompts: after the empty one those that are most alike."""
    probe = Probe.of(model)
    concept = probe.concept(config.concepts[0].concept)
    near = alike(probe, concept.name, looks(model))[:NEIGHBOURS]
    everything = prompts_to_hold(model, config, len(probe.vocabulary.concepts))
    seeded = everything[1 + NEIGHBOURS :]  # after the empty prompt and what `live` holds
    held = [prompt for prompt in dict.fromkeys(["", *near, *seeded]) if prompt in everything]
    return replace(config, preserve_prompts=held[:HELD])


def shared(model: DiffusionModel) -> dict[str, float]:
    """How many of the objects that CLIP finds nearest by phrase, first in the category, others find, too.
    Means over what is erased."""
    probe, pictures = Probe.of(model), looks(model)
    objects, found = probe.vocabulary.of_kind("object"), Counter[str]()
    for thing in objects:
        by_clip = {c.phrase for c in probe.neighbours(thing, NEIGHBOURS)}
        near = alike(probe, thing.name, pictures)
        kin = {c.phrase for c in objects if c.category == thing.category}
        kin_first = sorted(near, key=lambda phrase: phrase not in kin)
        by_text_encoder = [c.phrase for c in neighbours(model, thing, NEIGHBOURS)]
        found["the text encoder, of their category first (`live`)"] += len(by_clip & {*by_text_encoder})
        found["CLIP by phrase and picture, of their category first"] += len(
            by_clip & {*kin_first[:NEIGHBOURS]}
        )
        found["CLIP by phrase and picture"] += len(by_clip & {*near[:NEIGHBOURS]})
    return {who: count / len(objects) for who, count in found.items()}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return measured.parser(__doc__)


if __name__ == "__main__":
    args = parser().parse_args()
    found = shared(load_model("emoji"))
    for who, count in found.items():
        print(f"{count:.1f} of {NEIGHBOURS}: {who}")
    measured.write(found, args.out)
