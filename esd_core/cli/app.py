"""The command line: `python -m esd_core erase | sweep | evaluate | sample | compare | ...`.

Bad input is one sentence on stderr and exit code 2. Results go to stdout, progress and warnings to
stderr. Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from esd_core.cli import erase_command, evaluate_command, sweep_command
from esd_core.cli.command_options import (
    DRAWING,
    AsJson,
    Device,
    Erasures,
    Guidance,
    ImageSize,
    Model,
    Scheduler,
    Seeds,
    Steps,
    Strengths,
    load,
    load_erasures,
    option,
    warn_of_unknown_words,
)

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns of parts that we do not use
UsageError: Any = typer.BadParameter.__base__  # click's, or that of typer's own copy of click


class OneSentence(TyperGroup):
    """Refuses bad input with one sentence and exit code 2, whoever notices it."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UsageError as refused:
            message = refused.format_message()
        except BrokenPipeError:  # nobody reads our output: typer ends quietly
            raise
        except (ValueError, OSError) as refused:
            message = str(refused)
        typer.echo(f"error: {' '.join(message.split())}", err=True)
        raise typer.Exit(2)


app = typer.Typer(
    cls=OneSentence,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Erase concepts from text-to-image diffusion models, and see what went.",
    epilog="Exit codes: 0 done; 1 the run diverged, its last good state is kept; 2 bad input; 130 "
    "Ctrl-C, what was learned is kept.",
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},
)
export = typer.Typer(no_args_is_help=True, help="Write an erasure in somebody else's format.")
app.command()(erase_command.erase)
app.command()(sweep_command.sweep)
app.command()(evaluate_command.evaluate)

Prompts = Annotated[list[str], typer.Argument(help="What to draw; '' is the empty prompt.")]
Sheet = Annotated[
    Path | None, option("PNG to write; default: under outputs/, named after the prompt.", "--out")
]
NegativePrompt = Annotated[str, option("Takes the place of the empty prompt in guidance.", panel=DRAWING)]
Rival = Annotated[
    str | None,
    option(
        "Of the last row; '' leaves it out. Default: the erased concepts.", "--negative-prompt", panel=DRAWING
    ),
]
Strength = Annotated[float, typer.Option(min=-10, max=10, help="1 is as trained.")]
ErasureFile = Annotated[Path, typer.Argument(help="An erasure's .safetensors file.")]


@app.command()
def sample(
    prompts: Prompts,
    seeds: Seeds = None,
    guidance: Guidance = 4.0,
    steps: Steps = 20,
    scheduler: Scheduler = "ddim",
    negative_prompt: NegativePrompt = "",
    image_size: ImageSize = None,
    erasures: Erasures = None,
    strengths: Strengths = None,
    model: Model = "emoji",
    device: Device = None,
    out: Sheet = None,
) -> None:
    """Draw one picture, or a sheet of prompts (rows) by seeds (columns), as a PNG."""
    from esd_core.cli import run_folder
    from esd_core.sampling import generate
    from esd_core.study import figures

    loaded, seeds = load(model, device), seeds or [0]
    _, unet = load_erasures(loaded, erasures, strengths)
    warn_of_unknown_words(loaded, [*prompts, negative_prompt])
    drawn = generate(
        loaded,
        [p for p in prompts for _ in seeds],
        seeds=seeds * len(prompts),
        unet=unet,
        negative_prompt=negative_prompt,
        guidance_scale=guidance,
        num_inference_steps=steps,
        scheduler=scheduler,
        image_size=image_size,
    )
    picture = figures.to_pil(drawn[0])
    if len(drawn) > 1:
        rows = drawn.unflatten(0, (len(prompts), len(seeds)))
        picture = figures.sheet(rows, prompts, [f"seed {seed}" for seed in seeds])
    path = out or run_folder.free(Path("outputs") / f"{run_folder.slug(prompts[0])}.png")
    typer.echo(figures.save_png(picture, path))


@app.command()
def compare(
    prompts: Prompts,
    erasures: Erasures = None,
    strengths: Strengths = None,
    negative_prompt: Rival = None,
    seeds: Seeds = None,
    guidance: Guidance = 4.0,
    steps: Steps = 20,
    scheduler: Scheduler = "ddim",
    image_size: ImageSize = None,
    model: Model = "emoji",
    device: Device = None,
    out: Sheet = None,
    as_json: AsJson = False,
) -> None:
    """Draw base, erased and negative prompt from the same noise, as one labelled sheet."""
    from esd_core import card
    from esd_core.cli import run_folder
    from esd_core.study import figures
    from esd_core.study.comparison import compare as draw

    loaded = load(model, device)
    applied, unet = load_erasures(loaded, erasures, strengths)
    if negative_prompt is None:
        erased = [concept for erasure in applied for concept in card.concepts(erasure)]
        negative_prompt = ", ".join(dict.fromkeys(erased))
    warn_of_unknown_words(loaded, [*prompts, negative_prompt])
    made = draw(
        loaded,
        unet,
        prompts,
        seeds or [0, 1],
        negative_prompt=negative_prompt or None,
        guidance_scale=guidance,
        num_inference_steps=steps,
        scheduler=scheduler,
        image_size=image_size,
    )
    path = out or run_folder.free(Path("outputs") / f"compare-{run_folder.slug(prompts[0])}.png")
    figures.save_png(figures.comparison_sheet(made), path)
    changes = {  # mean over pixels, from 0 to 1, per prompt
        name: (drawn - made.columns["base"]).abs().mean(dim=(1, 2, 3, 4)).tolist()
        for name, drawn in made.columns.items()
        if name != "base"
    }
    facts = {
        "sheet": str(path),
        "noise_hash": made.noise_hash,
        "prompts": made.prompts,
        "seeds": made.seeds,
        "negative_prompt": negative_prompt or None,
        "change_from_base": changes,
    }
    typer.echo(json.dumps(facts) if as_json else path)


@app.command()
def probe(
    concept: Annotated[str, typer.Argument(help="A concept of the model's vocabulary.")],
    erasures: Erasures = None,
    strengths: Strengths = None,
    pictures: Annotated[int, typer.Option(min=1, max=64, help="Pictures per prompt.")] = 4,
    guidance: Guidance = 4.0,
    steps: Steps = 20,
    model: Model = "emoji",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Is the concept still drawn? CLIP's scores for it, its neighbours and unrelated concepts.

    Presence is how much more the pictures resemble the concept than the average of its kind.
    Accuracy is the share of pictures that are named as what was asked for.
    """
    from esd_core.study.clip_probe import Probe
    from esd_core.study.clip_probe import probe as score

    loaded = load(model, device)
    _, unet = load_erasures(loaded, erasures, strengths)
    judge = Probe.of(loaded)
    runs = {"base": None} if unet is None else {"base": None, "erased": unet}
    scores = {
        name: score(
            loaded,
            concept,
            unet=each,
            judge=judge,
            seeds=range(pictures),
            guidance_scale=guidance,
            num_inference_steps=steps,
        )
        for name, each in runs.items()
    }
    if as_json:
        rows = {name: [asdict(s) for s in each] for name, each in scores.items()}
        typer.echo(json.dumps({"concept": judge.concept(concept).phrase, **rows}))
        return
    for name, each in scores.items():
        typer.echo(f"{name:18}presence  accuracy")
        for s in each:
            accuracy = "-" if s.accuracy is None else f"{s.accuracy:.0%}"
            names = ", ".join(p for p in s.prompts if p)
            typer.echo(f"  {s.group:16}{s.presence:+8.3f}  {accuracy:>8}  {names}".rstrip())


@app.command()
def info(
    what: Annotated[str, typer.Argument(help="A model, or an erasure's file.")] = "emoji",
    as_json: AsJson = False,
) -> None:
    """Describe a model (parts, train methods, vocabulary) or an erasure (tensors, provenance)."""
    from esd_core.cli import describe

    is_file = what.endswith(".safetensors") or Path(what).is_file()
    facts = describe.of_erasure(Path(what)) if is_file else describe.of_model(load(what, "cpu"))
    typer.echo(json.dumps(facts) if as_json else describe.as_text(facts))


@export.command("official")
def export_official(
    erasure: ErasureFile, out: Annotated[Path, typer.Argument(help="New .safetensors file.")]
) -> None:
    """The tensors alone, as the authors' 2025 script saves and loads them."""
    from esd_core.erasure import Erasure
    from esd_core.formats import write_official

    typer.echo(write_official(Erasure.load(erasure), out))


@export.command("diffusers")
def export_diffusers(
    erasure: ErasureFile,
    out: Annotated[Path, typer.Argument(help="New folder.")],
    strength: Strength = 1.0,
    model: Model = "emoji",
) -> None:
    """A complete diffusers pipeline with the erasure applied."""
    from esd_core.formats import load_erasure, write_diffusers

    loaded = load(model, "cpu")
    typer.echo(write_diffusers(loaded, load_erasure(erasure, loaded), out, strength))


app.add_typer(export, name="export")
