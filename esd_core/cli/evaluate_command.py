"""The command `evaluate`: what erasures removed and what they took with them, as a table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core.cli.options import LOADING, SAMPLING, AsJson, group, load, note, option, taking

if TYPE_CHECKING:
    from esd_core.study.evaluation import Change, Evaluation
    from esd_core.study.intervals import Interval

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
    from esd_core import card
    from esd_core.exchange.formats import load_erasure
    from esd_core.study import evaluation
    from esd_core.study.clip_probe import Probe
    from esd_core.study.questions import Gallery
    from esd_core.vocabulary import Vocabulary

    concepts, labels, clip, pictures = (options.pop(n) for n in ("concept", "labels", "clip", "pictures"))
    model = load(options.pop("model"), options.pop("device"))
    model = replace(model, vocabulary=Vocabulary.of_labels(labels)) if labels else model
    model = replace(model, clip_path=Path(clip)) if clip else model
    if model.vocabulary is None or model.clip_path is None:
        raise ValueError(f"{model.name!r} has no vocabulary and CLIP of its own; give --label and --clip")
    probe, gallery, asked, rows = Probe.of(model), Gallery(model, **options), [], []
    for path in erasures:
        erasure = load_erasure(path, model)
        if not (texts := concepts or card.concepts(erasure)):
            raise ValueError(f"{path} does not say what it erases; give --concept")
        asked += [(path, erasure, probe.concept(text).phrase) for text in texts]
    for path, erasure, phrase in asked:
        made = evaluation.evaluate(gallery, probe, phrase, erasure.apply(model), pictures=pictures)
        rows.append({"file": str(path), **made.to_dict()})
        if not as_json:
            typer.echo(report(path, made))
    if as_json:
        facts = {"model": model.name, "guidance": options["guidance_scale"], "evaluations": rows}
        typer.echo(json.dumps(facts))
    elif not clip:
        note("CLIP was trained beside the model that it judges: see bench/quality.py for another")


def report(path: Path, made: Evaluation) -> str:
    """The evaluation for a reader."""
    lines = [f"{made.concept.phrase}  ({path}); brackets are 95 % intervals"]
    for marker, groups in made.marks.items():
        verdicts = made.verdicts(marker)
        lines.append(f"  {'by ' + marker:12}{'n':>4}  {'before':16}{'after':16}change (points)")
        lines += [row(group, change, verdicts[group]) for group, change in groups.items()]
    moved = ", ".join(
        f"{group} {d.pixels:.2f} [{d.pixels_interval[0]:.2f}, {d.pixels_interval[1]:.2f}]"
        for group, d in made.distances.items()
    )
    return "\n".join([*lines, f"  moved, if 1 is as far as two unrelated pictures: {moved}"])


def row(group: str, change: Change, verdict: str) -> str:
    """One line of the table: shares, their bounds, and a word."""
    before, after, (low, high) = change.intervals

    def share(value: float, bounds: Interval) -> str:
        return f"{value:4.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}]"

    fall = f"{100 * (change.after - change.before):+4.0f} [{100 * low:+.0f}, {100 * high:+.0f}]"
    shares = f"{share(change.before, before):16}{share(change.after, after):16}"
    return f"  {group:12}{change.total:4}  {shares}{fall:18}{verdict}"
