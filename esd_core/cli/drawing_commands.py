"""The commands that draw pictures, to look at or to measure: `sample`, `compare`, `probe` and `evaluate`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

import esd_core
from esd_core.cli import options as shared
from esd_core.cli.options import DRAWING, EDITED, LOADING, SAMPLING, AsJson, group, taking
from esd_core.support.strict import Option
from esd_core.vocabulary import Vocabulary

Prompts = Annotated[list[str], typer.Argument(help="What to draw; '' is the empty prompt.")]
Concept = Annotated[str, typer.Argument(help="A concept of the model's vocabulary.")]
Out = Annotated[Path | None, typer.Option(help="PNG to write; default: outputs/<first prompt>.png.")]
Negative = Annotated[str, typer.Option(help="Takes the place of the empty prompt in guidance.")]
Rival = Annotated[str | None, typer.Option(help="Of the last row, '' for none; default: what is erased.")]
Pictures = Annotated[int, typer.Option(min=1, max=64, help="Pictures per prompt.")]
Files = Annotated[list[Path], typer.Argument(help="Erasures' files, ours or the authors'.")]
JUDGING = group(
    "Judging",
    concept=Option(list[str], "What was erased; default: what each file's record says."),
    labels=Option(list[str], "For a model without a vocabulary: all that CLIP chooses from."),
    clip=Option(str, "For a model without a CLIP: such as openai/clip-vit-large-patch14, or a folder."),
)
COUNTED = "Of the concept; half as many of neighbours, twice of others."
MEASURING = SAMPLING | group(
    "Drawing",
    pictures=Option(int, COUNTED, 28, (4, 1000)),
    num_inference_steps=Option(int, "Of DPM-Solver++.", 10, (2, 999)),
)


def new_picture(out: Path | None, name: str) -> Path:
    """Where a command's picture goes; by default to a new file under outputs/."""
    return shared.writable(out or shared.free(Path("outputs") / f"{shared.slug(name)}.png"))


def load_edited(options: dict[str, Any]) -> tuple[esd_core.DiffusionModel, list[esd_core.Erasure], Any]:
    """What the options of EDITED, which are taken out, stand for: the model, erasures and the edited UNet,
    None without erasures."""
    from esd_core.exchange.formats import load_erasure

    name, device, paths, given = (options.pop(each) for each in EDITED)
    model = shared.load(name, device)
    erasures = [load_erasure(path, model) for path in paths or ()]
    if not erasures and not given:
        return model, erasures, None
    return model, erasures, esd_core.combine(model, erasures, given or [1.0] * len(erasures))


@taking(DRAWING, EDITED)
def sample(prompts: Prompts, negative_prompt: Negative = "", out: Out = None, **options: Any) -> None:
    """Draw one picture, or a sheet of prompts (rows) by seeds (columns), as a PNG."""
    from esd_core.study import figures

    path = new_picture(out, prompts[0])
    model, _, unet = load_edited(options)
    shared.warn_of_unknown_words(model, [*prompts, negative_prompt])
    seeds = options.pop("seeds") or [0]
    asked = [prompt for prompt in prompts for _ in seeds]
    options |= {"seeds": seeds * len(prompts), "negative_prompt": negative_prompt}
    drawn = esd_core.generate(model, asked, unet=unet, **options).unflatten(0, (len(prompts), len(seeds)))
    sheet = figures.to_pil(drawn[0, 0])
    if len(asked) > 1:
        sheet = figures.sheet(drawn, prompts, [f"seed {seed}" for seed in seeds])
    typer.echo(figures.save_png(sheet, path))


@taking(DRAWING, EDITED)
def compare(
    prompts: Prompts, negative_prompt: Rival = None, out: Out = None, as_json: AsJson = False, **options: Any
) -> None:
    """Draw base, erased and negative prompt from the same noise, as one labelled sheet."""
    from esd_core.study import figures

    path = new_picture(out, f"compare {prompts[0]}")
    model, erasures, unet = load_edited(options)
    if negative_prompt is None:
        erased = [concept for erasure in erasures for concept in esd_core.card.concepts(erasure)]
        negative_prompt = ", ".join(dict.fromkeys(erased))
    shared.warn_of_unknown_words(model, [*prompts, negative_prompt])
    rival, seeds = negative_prompt or None, options.pop("seeds") or [0, 1]
    made = esd_core.compare(model, unet, prompts, seeds, negative_prompt=rival, **options)
    figures.save_png(figures.comparison_sheet(made), path)
    changes = {name: (drawn - made.columns["base"]).abs() for name, drawn in made.columns.items()}
    facts = {
        "sheet": str(path),
        "noise_hash": made.noise_hash,
        "prompts": made.prompts,
        "seeds": made.seeds,
        "negative_prompt": rival,
        "change_from_base": {n: x.mean(dim=(1, 2, 3, 4)).tolist() for n, x in changes.items() if n != "base"},
    }
    typer.echo(json.dumps(facts) if as_json else path)


@taking(SAMPLING, EDITED)
def probe(concept: Concept, pictures: Pictures = 4, as_json: AsJson = False, **options: Any) -> None:
    """Is the concept still drawn? CLIP's scores for it, its neighbours and unrelated concepts.

    Presence is how much more the pictures resemble the concept than the average of its kind.
    Accuracy is the share of pictures that are named as what was asked for.
    """
    model, _, unet = load_edited(options)
    options["seeds"] = range(pictures)
    unets = {"base": None} if unet is None else {"base": None, "erased": unet}
    scores = {name: esd_core.probe(model, concept, unet=each, **options) for name, each in unets.items()}
    if as_json:
        rows = {name: [asdict(score) for score in each] for name, each in scores.items()}
        typer.echo(json.dumps({"concept": scores["base"][0].prompts[0], **rows}))
        return
    for name, each in scores.items():
        typer.echo(f"{name:18}presence  accuracy")
        for score in each:
            accuracy = "-" if score.accuracy is None else f"{score.accuracy:.0%}"
            names = ", ".join(filter(None, score.prompts))
            typer.echo(f"  {score.group:16}{score.presence:+8.3f}  {accuracy:>8}  {names}".rstrip())


@taking(JUDGING, MEASURING, LOADING)
def evaluate(erasures: Files, as_json: AsJson = False, **options: Any) -> None:
    """How often are the erased concept and others recognised, before and after?

    Pictures are drawn from the same noise with the frozen and the edited model and named by the
    model's own CLIP. Shares carry 95 % intervals; "inconclusive" asks for more --pictures, or says
    that CLIP did not recognise half of the pictures before erasing.
    """
    from esd_core.exchange.formats import load_erasure

    concepts, labels, clip, pictures = (options.pop(n) for n in ("concept", "labels", "clip", "pictures"))
    model = shared.load(options.pop("model"), options.pop("device"))
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
        shared.note("CLIP was trained beside the model that it judges: see bench/quality.py for another")
