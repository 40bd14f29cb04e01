"""The command `evaluate`: what erasures removed and what they took with them, as a table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

import esd_core
from esd_core.cli.options import LOADING, SAMPLING, AsJson, group, load, note, option, taking
from esd_core.vocabulary import Vocabulary

Files = Annotated[list[Path], typer.Argument(help="Erasures' files, ours or the authors'.")]
JUDGING = group(
    "Judging",
    concept=option(list[str], "What was erased; default: what each file's record says.", "--concept"),
    labels=option(list[str], "For a model without a vocabulary: all that CLIP chooses from.", "--label"),
    clip=option(str, "For a model without a CLIP: such as openai/clip-vit-large-patch14, or a folder."),
)
DRAWING = SAMPLING | group(
    "Drawing",
    pictures=option(
        int, "Of the concept; half as many of neighbours, twice of others.", default=28, within=(4, 1000)
    ),
    num_inference_steps=option(int, "Of DPM-Solver++.", "--steps", default=10, within=(2, 999)),
)


@taking(JUDGING, DRAWING, LOADING)
def evaluate(erasures: Files, as_json: AsJson = False, **options: Any) -> None:
    """How often are the erased concept and others recognised, before and after?

    Pictures are drawn from the same noise with the frozen and the edited model and named by the
    model's own CLIP. Shares carry 95 % intervals; "inconclusive" asks for more --pictures, or says
    that CLIP did not recognise half of the pictures before erasing.
    """
    from esd_core.exchange.formats import load_erasure

    concepts, labels, clip, pictures = (options.pop(n) for n in ("concept", "labels", "clip", "pictures"))
    model = load(options.pop("model"), options.pop("device"))
    model = replace(model, vocabulary=Vocabulary.of_labels(labels)) if labels else model
    model = replace(model, clip_path=Path(clip)) if clip else model
    if model.vocabulary is None or model.clip_path is None:
        raise ValueError(f"{model.name!r} has no vocabulary and CLIP of its own; give --label and --clip")
    probe, gallery, asked, rows = esd_core.Probe.of(model), esd_core.Gallery(model, **options), [], []
    for path in erasures:
        erasure = load_erasure(path, model)
        if not (texts := concepts or esd_core.card.concepts(erasure)):
            raise ValueError(f"{path} does not say what it erases; give --concept")
        asked += [(path, erasure, probe.concept(text).phrase) for text in texts]
    for path, erasure, phrase in asked:
        made = esd_core.evaluate(gallery, probe, phrase, erasure.apply(model), pictures=pictures)
        rows.append({"file": str(path), **made.to_dict()})
        if not as_json:
            typer.echo(f"{phrase}  ({path}); brackets are 95 % intervals\n{made.text()}")
    if as_json:
        facts = {"model": model.name, "guidance": options["guidance_scale"], "evaluations": rows}
        typer.echo(json.dumps(facts))
    elif not clip:
        note("CLIP was trained beside the model that it judges: see bench/quality.py for another")
