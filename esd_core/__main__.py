"""The command line: `python -m esd_core erase | sample | compare | probe | info`.

Bad input is one sentence on stderr and exit code 2; Ctrl-C during `erase` keeps what was learned.
The option names of the authors' `train-esd.py` work as they were spelled there.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from esd_core.config import BOUNDS, PRESETS
from esd_core.selection import ALIASES, TRAIN_METHODS

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns of parts we do not use

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Erase concepts; see what went.")

Model = Annotated[str, typer.Option(help="'emoji', a diffusers folder, or a Hub id.")]
Device = Annotated[
    str | None, typer.Option("--device", "--devices", help="For example cpu, cuda:0.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
ErasureFile = Annotated[Path | None, typer.Option("--erasure", help="An erasure.safetensors file.")]
Strength = Annotated[float, typer.Option(help="1 as trained, 0 none, below 0 strengthens.")]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="One picture each; repeatable.")]
Guidance = Annotated[float, typer.Option("--guidance", help="1 is plain conditional, 0 none.")]
Steps = Annotated[int, typer.Option("--steps", help="Sampling steps.")]


def ranged(name: str, text: str) -> str:
    """Help text with the option's range."""
    low, high = BOUNDS[name]
    return f"{text} {low:g} to {high:g}."


def _load(model: str, device: str | None) -> Any:  # noqa: ANN401
    from esd_core.models import load_model

    if device and device[0].isdigit():  # the old script's '0,0'
        device = f"cuda:{device.split(',')[0]}"
    return load_model(model, device=device)


def _edited(model: Any, path: Path | None, strength: float) -> Any:  # noqa: ANN401
    from esd_core.erasure import Erasure

    return None if path is None else Erasure.load(path).apply(model, strength)


def _warn_unknown(model: Any, prompts: list[str]) -> None:  # noqa: ANN401
    for prompt in prompts:
        if unknown := model.unknown_words(prompt):
            typer.echo(f"warning: the model has never seen: {', '.join(unknown)}", err=True)


@app.command()
def erase(
    context: typer.Context,
    concept: Annotated[list[str] | None, typer.Argument(help="What to erase.")] = None,
    prompt: Annotated[
        str | None, typer.Option(help="The same, as the 2023 script named it.")
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option("--separator", "--seperator", help="Splits --prompt into concepts."),
    ] = None,
    erase_from: Annotated[
        str | None,
        typer.Option("--erase-from", "--erase_from", help="Keep everything else of this."),
    ] = None,
    preset: Annotated[str, typer.Option(help=f"One of: {', '.join(PRESETS)}.")] = "live",
    train_method: Annotated[
        str | None,
        typer.Option(
            "--train-method",
            "--train_method",
            help=f"One of: {', '.join((*TRAIN_METHODS, *ALIASES))}.",
        ),
    ] = None,
    eta: Annotated[
        float | None,
        typer.Option("--eta", "--negative_guidance", help=ranged("eta", "Strength, paper units.")),
    ] = None,
    start_guidance: Annotated[
        float | None,
        typer.Option("--start-guidance", "--start_guidance", help="Guidance while drawing x_t."),
    ] = None,
    iterations: Annotated[int | None, typer.Option(help=ranged("iterations", "Updates."))] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--lr", "--learning-rate", help="Of Adam.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help=ranged("batch_size", "Examples per update."))
    ] = None,
    num_inference_steps: Annotated[
        int | None, typer.Option("--steps", "--ddim_steps", help="Sampling steps of a trajectory.")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option("--image-size", "--image_size", help="Pixels; default the model's."),
    ] = None,
    x_t_source: Annotated[str | None, typer.Option(help="frozen or edited: whose x_t.")] = None,
    trajectories: Annotated[
        int | None, typer.Option(help=ranged("trajectories", "Per concept."))
    ] = None,
    preserve: Annotated[float | None, typer.Option(help="Weight that holds other prompts.")] = None,
    seed: Annotated[int | None, typer.Option(help=ranged("seed", "Of the run."))] = None,
    model: Model = "emoji",
    device: Device = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default under outputs/.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Erase one or more concepts and write one folder with everything about the run.

    Options not given are the preset's.
    """
    from esd_core import config as configs
    from esd_core.run_folder import new_folder

    named = list(concept or ())
    if prompt:
        named += [p.strip() for p in (prompt.split(separator) if separator else [prompt])]
    given = {
        name: value
        for name in (
            "train_method", "eta", "start_guidance", "iterations", "learning_rate", "batch_size",
            "num_inference_steps", "image_size", "x_t_source", "trajectories", "preserve", "seed",
        )
        if (value := context.params[name]) is not None
    }  # fmt: skip
    targets = [configs.Target(c, erase_from) for c in named]
    settings = configs.preset(preset, targets, **given)
    loaded = _load(model, device)
    _warn_unknown(loaded, named)
    folder = out or new_folder(settings, Path("outputs"))
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; name another --out")
    code = _run(loaded, settings, folder, as_json)
    raise typer.Exit(code)


def _run(model: Any, settings: Any, folder: Path, as_json: bool) -> int:  # noqa: ANN401
    """Erase with a progress bar; whatever ends the run, write what was learned."""
    from tqdm import tqdm

    from esd_core.erase import DivergenceError
    from esd_core.erase import erase as run
    from esd_core.run_folder import write_run

    losses, held_out, erasure, code = [], [], None, 0
    every = max(1, settings.iterations // 20)
    bar = tqdm(total=settings.iterations, unit="update", file=sys.stderr)
    step = None
    try:
        for step in run(model, settings):
            if step.loss is not None:
                losses.append((step.iteration, round(step.seconds, 3), step.loss))
                bar.update()
                bar.set_postfix(loss=f"{step.loss:.4g}")
            error = step.held_out_error() if step.iteration % every == 0 else None
            if error is not None:
                held_out.append((step.iteration, error))
    except KeyboardInterrupt:
        code = 130
        typer.echo("stopped; keeping what was learned so far", err=True)
    except DivergenceError as error:
        code, erasure = 1, error.erasure
        typer.echo(f"{error}; the last good state is kept", err=True)
    bar.close()
    if step is None:
        return code
    erasure = erasure or step.erasure
    write_run(folder, model, settings, erasure, losses, held_out)
    summary = {
        "folder": str(folder), "updates": len(losses), "seconds": losses[-1][1] if losses else 0,
        "held_out_error": held_out[-1][1] if held_out else None,
    }  # fmt: skip
    typer.echo(json.dumps(summary) if as_json else f"wrote {folder}")
    return code


@app.command()
def sample(
    prompt: Annotated[list[str], typer.Argument(help="What to draw.")],
    seed: Seeds = None,
    guidance: Guidance = 4.0,
    steps: Steps = 20,
    negative_prompt: Annotated[str, typer.Option(help="What to steer away from.")] = "",
    scheduler: Annotated[str, typer.Option(help="ddim, dpm++, euler or pndm.")] = "ddim",
    erasure: ErasureFile = None,
    strength: Strength = 1.0,
    model: Model = "emoji",
    device: Device = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("outputs/sample.png"),
) -> None:
    """Draw prompts (rows) with seeds (columns) into one PNG."""
    from esd_core import figures
    from esd_core.sample import generate

    loaded, seeds = _load(model, device), seed or [0]
    _warn_unknown(loaded, prompt)
    images = generate(
        loaded, [p for p in prompt for _ in seeds], seeds=seeds * len(prompt),
        guidance_scale=guidance, num_inference_steps=steps, scheduler=scheduler,
        negative_prompt=negative_prompt, unet=_edited(loaded, erasure, strength),
    ).unflatten(0, (len(prompt), len(seeds)))  # fmt: skip
    figures.save_png(figures.sheet(images, prompt, [f"seed {s}" for s in seeds]), out)
    typer.echo(f"wrote {out}")


@app.command()
def compare(
    prompt: Annotated[list[str], typer.Argument(help="What to draw.")],
    erasure: ErasureFile = None,
    strength: Strength = 1.0,
    negative_prompt: Annotated[str | None, typer.Option(help="Adds that row.")] = None,
    seed: Seeds = None,
    guidance: Guidance = 4.0,
    steps: Steps = 20,
    model: Model = "emoji",
    device: Device = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("outputs/compare.png"),
    as_json: AsJson = False,
) -> None:
    """Draw base, erased and negative prompt from the same noise into one labelled PNG."""
    from esd_core import compare as core
    from esd_core import figures

    loaded = _load(model, device)
    _warn_unknown(loaded, prompt)
    result = core(
        loaded, _edited(loaded, erasure, strength), prompt, seed or [0, 1],
        negative_prompt=negative_prompt, guidance_scale=guidance, num_inference_steps=steps,
    )  # fmt: skip
    figures.save_png(figures.comparison_sheet(result), out)
    summary = {"sheet": str(out), "noise_hash": result.noise_hash, "rows": list(result.columns)}
    typer.echo(json.dumps(summary) if as_json else f"wrote {out}")


@app.command()
def probe(
    concept: Annotated[str, typer.Argument(help="A concept of the model's vocabulary.")],
    erasure: ErasureFile = None,
    strength: Strength = 1.0,
    pictures: Annotated[int, typer.Option(min=1, max=64, help="Per prompt.")] = 4,
    model: Model = "emoji",
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Is the concept still drawn? Scores for it, its neighbours, unrelated and empty prompts."""
    from esd_core import probe as core

    loaded = _load(model, device)
    scores = core(loaded, concept, unet=_edited(loaded, erasure, strength), seeds=range(pictures))
    if as_json:
        typer.echo(json.dumps([asdict(s) for s in scores]))
        return
    for s in scores:
        accuracy = "" if s.accuracy is None else f"{s.accuracy:6.0%} named right"
        typer.echo(f"{s.group:13} presence {s.presence:+.3f} {accuracy}")


@app.command()
def info(
    what: Annotated[str, typer.Argument(help="A model, or an erasure file.")] = "emoji",
    as_json: AsJson = False,
) -> None:
    """Describe a model or an erasure file."""
    from esd_core import selection
    from esd_core.erasure import Erasure

    facts: dict[str, Any]
    if what.endswith(".safetensors"):
        erasure = Erasure.load(what)
        numbers = sum(t.numel() for t in erasure.tensors.values())
        facts = {"base": erasure.base, "tensors": len(erasure.tensors), "parameters": numbers}
        facts |= erasure.provenance
    else:
        model = _load(what, "cpu")
        methods = {}
        for method in selection.TRAIN_METHODS:
            try:
                names = selection.select(model.unet, method)
                methods[method] = selection.count(model.unet, names)
            except ValueError:
                methods[method] = 0
        facts = {
            "model": what, "fingerprint": model.fingerprint, "image_size": model.image_size,
            "prediction_type": model.prediction_type, "trainable": methods,
        }  # fmt: skip
        if model.vocabulary:
            for kind in ("object", "style", "background"):
                facts[kind + "s"] = [c.name for c in model.vocabulary.of_kind(kind)]
    if as_json:
        typer.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        text = (
            ", ".join(value)
            if isinstance(value, list) and value and isinstance(value[0], str)
            else value
        )
        typer.echo(f"{key}: {text}")


def main() -> None:
    """Run the command line; a ValueError is the user's, not ours."""
    try:
        app()
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
