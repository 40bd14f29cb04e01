"""The commands that draw pictures: `sample`, `compare` and `probe`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from esd_core.cli.options import (
    DRAWING,
    EDITED,
    SAMPLING,
    AsJson,
    Sheet,
    load_edited,
    taking,
    warn_of_unknown_words,
)

Prompts = Annotated[list[str], typer.Argument(help="What to draw; '' is the empty prompt.")]
NegativePrompt = Annotated[str, typer.Option(help="Takes the place of the empty prompt in guidance.")]
Rival = Annotated[
    str | None,
    typer.Option(
        "--negative-prompt", help="Of the last row; '' leaves it out. Default: the erased concepts."
    ),
]
Pictures = Annotated[int, typer.Option(min=1, max=64, help="Pictures per prompt.")]
Concept = Annotated[str, typer.Argument(help="A concept of the model's vocabulary.")]


@taking(DRAWING, EDITED)
def sample(prompts: Prompts, negative_prompt: NegativePrompt = "", out: Sheet = None, **options: Any) -> None:
    """Draw one picture, or a sheet of prompts (rows) by seeds (columns), as a PNG."""
    from esd_core.cli import run_folder
    from esd_core.sampling import generate
    from esd_core.study import figures

    path = run_folder.new_picture(out, prompts[0])
    model, _, unet = load_edited(options)
    warn_of_unknown_words(model, [*prompts, negative_prompt])
    seeds = options.pop("seeds") or [0]
    asked = [prompt for prompt in prompts for _ in seeds]
    noise = seeds * len(prompts)
    drawn = generate(model, asked, seeds=noise, unet=unet, negative_prompt=negative_prompt, **options)
    sheet = figures.to_pil(drawn[0])
    if len(drawn) > 1:
        rows = drawn.unflatten(0, (len(prompts), len(seeds)))
        sheet = figures.sheet(rows, prompts, [f"seed {seed}" for seed in seeds])
    typer.echo(figures.save_png(sheet, path))


@taking(DRAWING, EDITED)
def compare(
    prompts: Prompts,
    negative_prompt: Rival = None,
    out: Sheet = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Draw base, erased and negative prompt from the same noise, as one labelled sheet."""
    from esd_core import card
    from esd_core.cli import run_folder
    from esd_core.study import comparison, figures

    path = run_folder.new_picture(out, f"compare {prompts[0]}")
    model, erasures, unet = load_edited(options)
    if negative_prompt is None:
        erased = [concept for erasure in erasures for concept in card.concepts(erasure)]
        negative_prompt = ", ".join(dict.fromkeys(erased))
    rival, seeds = negative_prompt or None, options.pop("seeds") or [0, 1]
    warn_of_unknown_words(model, [*prompts, negative_prompt])
    made = comparison.compare(model, unet, prompts, seeds, negative_prompt=rival, **options)
    figures.save_png(figures.comparison_sheet(made), path)
    base = made.columns["base"]
    changes = {  # mean over pixels, from 0 to 1, per prompt
        name: (drawn - base).abs().mean(dim=(1, 2, 3, 4)).tolist()
        for name, drawn in made.columns.items()
        if name != "base"
    }
    facts = {
        "sheet": str(path),
        "noise_hash": made.noise_hash,
        "prompts": made.prompts,
        "seeds": made.seeds,
        "negative_prompt": rival,
        "change_from_base": changes,
    }
    typer.echo(json.dumps(facts) if as_json else path)


@taking(SAMPLING, EDITED)
def probe(concept: Concept, pictures: Pictures = 4, as_json: AsJson = False, **options: Any) -> None:
    """Is the concept still drawn? CLIP's scores for it, its neighbours and unrelated concepts.

    Presence is how much more the pictures resemble the concept than the average of its kind.
    Accuracy is the share of pictures that are named as what was asked for.
    """
    from esd_core.study import clip_probe

    model, _, unet = load_edited(options)
    phrase = clip_probe.Probe.of(model).concept(concept).phrase
    unets = {"base": None} if unet is None else {"base": None, "erased": unet}
    options["seeds"] = range(pictures)
    scores = {name: clip_probe.probe(model, phrase, unet=each, **options) for name, each in unets.items()}
    if as_json:
        rows = {name: [asdict(score) for score in each] for name, each in scores.items()}
        typer.echo(json.dumps({"concept": phrase, **rows}))
        return
    for name, each in scores.items():
        typer.echo(f"{name:18}presence  accuracy")
        for score in each:
            accuracy = "-" if score.accuracy is None else f"{score.accuracy:.0%}"
            names = ", ".join(filter(None, score.prompts))
            typer.echo(f"  {score.group:16}{score.presence:+8.3f}  {accuracy:>8}  {names}".rstrip())
