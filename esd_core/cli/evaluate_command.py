"""The command `evaluate`: what erasures removed and what they took with them, as a table."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core.cli.command_options import DRAWING, MODEL, AsJson, Device, Guidance, Model, load, note, option

if TYPE_CHECKING:
    from esd_core.erasure import Erasure
    from esd_core.study.evaluation import Change, Evaluation

Files = Annotated[list[Path], typer.Argument(help="Erasures' files, ours or the authors'.")]
Concept = Annotated[
    list[str] | None,
    option("What was erased; repeatable; default: what each file's record says.", "--concept"),
]
Labels = Annotated[
    list[str] | None,
    option(
        "For a model without a vocabulary: what CLIP chooses from, such as 'a church'; repeatable.",
        "--label",
        panel=MODEL,
    ),
]
Clip = Annotated[
    str | None,
    option(
        "For a model without a CLIP: a folder or Hub id of one, such as openai/clip-vit-large-patch14.",
        panel=MODEL,
    ),
]
Pictures = Annotated[
    int,
    option(
        "Of the concept; half as many of its neighbours, twice as many of others.",
        "--pictures",
        panel=DRAWING,
        min=4,
        max=1000,
        show_default=True,
    ),
]
Steps = Annotated[int, option("Of DPM-Solver++.", panel=DRAWING, min=2, max=999, show_default=True)]


def evaluate(
    erasures: Files,
    concept: Concept = None,
    pictures: Pictures = 28,
    guidance: Guidance = 4.0,
    steps: Steps = 10,
    model: Model = "emoji",
    labels: Labels = None,
    clip: Clip = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """How often are the erased concept and others recognised, before and after?

    Pictures are drawn from the same noise with the frozen and the edited model and named by the
    model's own CLIP. Shares carry 95 % intervals; "inconclusive" asks for more --pictures, or says
    that CLIP did not recognise half of the pictures before erasing.
    """
    from esd_core.formats import load_erasure
    from esd_core.study.clip_probe import Probe
    from esd_core.study.evaluation import evaluate as measure
    from esd_core.study.questions import Gallery
    from esd_core.vocabulary import Vocabulary

    loaded = load(model, device)
    if labels:
        loaded = replace(loaded, vocabulary=Vocabulary.of_labels(labels))
    if clip:
        loaded = replace(loaded, clip_path=Path(clip))
    if loaded.vocabulary is None or loaded.clip_path is None:
        raise ValueError(f"{model!r} has no vocabulary and CLIP of its own; give --label and --clip")
    probe = Probe.of(loaded)
    files = [(path, load_erasure(path, loaded)) for path in erasures]
    named = [concept or erased(path, erasure) for path, erasure in files]
    for text in {t for texts in named for t in texts}:
        probe.concept(text)  # refuse before drawing
    gallery = Gallery(loaded, guidance_scale=guidance, num_inference_steps=steps)
    rows: list[dict[str, Any]] = []
    for (path, erasure), texts in zip(files, named, strict=True):
        unet = erasure.apply(loaded)
        for text in texts:
            made = measure(gallery, probe, text, unet, pictures=pictures)
            rows.append({"file": str(path), **made.to_dict()})
            if not as_json:
                typer.echo(report(path, made))
    if as_json:
        typer.echo(json.dumps({"model": loaded.name, "guidance": guidance, "evaluations": rows}))
    elif not clip:
        note("CLIP was trained beside the model that it judges: see bench/quality.py for another")


def erased(path: Path, erasure: Erasure) -> list[str]:
    """The concepts that an erasure's record names.

    Raises:
        ValueError: it names none.
    """
    from esd_core import card

    found = card.concepts(erasure)
    if not found:
        raise ValueError(f"{path} does not say what it erases; give --concept")
    return list(found)


def report(path: Path, made: Evaluation) -> str:
    """The evaluation for a reader."""
    lines = [f"{made.concept.phrase}  ({path}); brackets are 95 % intervals"]
    for marker, groups in made.marks.items():
        verdicts = made.verdicts(marker)
        lines.append(f"  {'by ' + marker:12}{'n':>4}  {'before':16}{'after':16}change (points)")
        lines += [row(group, change, verdicts[group]) for group, change in groups.items()]
    moved = [
        f"{group} {d.pixels:.2f} [{d.pixels_interval[0]:.2f}, {d.pixels_interval[1]:.2f}]"
        for group, d in made.distances.items()
    ]
    lines.append("  moved, if 1 is as far as two unrelated pictures: " + ", ".join(moved))
    return "\n".join(lines)


def row(group: str, change: Change, verdict: str) -> str:
    """One line of the table: shares, their bounds, and a word."""
    before, after, difference = change.intervals

    def share(value: float, bounds: tuple[float, float]) -> str:
        return f"{value:4.0%} [{bounds[0]:.0%}, {bounds[1]:.0%}]"

    fall = f"{100 * (change.after - change.before):+4.0f} "
    fall += f"[{100 * difference[0]:+.0f}, {100 * difference[1]:+.0f}]"
    shares = f"{share(change.before, before):16}{share(change.after, after):16}"
    return f"  {group:12}{change.total:4}  {shares}{fall:18}{verdict}"
