"""Options that several commands share, and what they stand for.

Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core.config import OPTIONS

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

    from esd_core.erasure import Erasure
    from esd_core.models import DiffusionModel

DRAWING, MODEL = "Drawing", "Model"  # headings in --help


def option(help: str, *flags: str, panel: str | None = None, **more: Any) -> Any:  # noqa: ANN401
    """A typer option; its help says what leaving it out means, as None is shown to nobody."""
    return typer.Option(*flags, help=help, rich_help_panel=panel, **{"show_default": False, **more})


def ranged(name: str) -> dict[str, int]:
    """The least and the greatest value that `config.OPTIONS` allows a whole number."""
    low, high = OPTIONS[name].bounds
    return {"min": int(low), "max": int(high)}


Model = Annotated[
    str,
    option(
        "emoji (embedded), a folder in diffusers layout, or a Hugging Face Hub id.",
        panel=MODEL,
        show_default=True,
    ),
]
Device = Annotated[str | None, option("cpu, cuda, cuda:1, ...; default: cuda if there is one.", panel=MODEL)]
Erasures = Annotated[
    list[Path] | None,
    option(
        "An erasure's file, ours or the authors'; repeat it to combine several.", "--erasure", panel=MODEL
    ),
]
Strengths = Annotated[
    list[float] | None,
    option(
        "One per --erasure: 0 none, 1 as trained (default), below 0 the reverse.",
        "--strength",
        panel=MODEL,
        min=-10,
        max=10,
    ),
]
Seeds = Annotated[
    list[int] | None,
    option(
        "Of the starting noise; repeat it for several pictures.", "--seed", panel=DRAWING, **ranged("seed")
    ),
]
Guidance = Annotated[
    float,
    option(
        "Guidance scale: 1 plain conditional, 0 ignores the prompt, below 0 avoids it.",
        "--guidance",
        "--guidance-scale",
        panel=DRAWING,
        min=-100,
        max=100,
        show_default=True,
    ),
]
Steps = Annotated[
    int,
    option(
        "Sampling steps.",
        "--steps",
        "--num-inference-steps",
        panel=DRAWING,
        show_default=True,
        **ranged("num_inference_steps"),
    ),
]
Scheduler = Annotated[str, option("ddim, dpm++, euler or pndm.", panel=DRAWING, show_default=True)]
ImageSize = Annotated[int | None, option("Pixels a side; default: the model's own.", panel=DRAWING)]
AsJson = Annotated[bool, option("Print one JSON value, and nothing else, on stdout.", "--json")]


def note(text: str) -> None:
    """Tell the reader, not the script: stderr."""
    typer.echo(text, err=True)


def load(name: str, device: str | None = None) -> DiffusionModel:
    """The model, without the libraries' progress bars.

    Raises:
        ValueError: there is no such model, or no such device here.
    """
    import diffusers.utils.logging
    import transformers.utils.logging

    from esd_core.models import load_model

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    return load_model(name, device=device)


def warn_of_unknown_words(model: DiffusionModel, prompts: list[str]) -> None:
    """Name words the model was never taught, if it keeps a list."""
    unknown = dict.fromkeys(word for prompt in prompts for word in model.unknown_words(prompt))
    if unknown:
        note(f"warning: {model.name!r} has never seen: {', '.join(unknown)}")


def load_erasures(
    model: DiffusionModel, paths: list[Path] | None, strengths: list[float] | None
) -> tuple[list[Erasure], UNet2DConditionModel | None]:
    """The erasures and the UNet edited by them; no UNet if there are none.

    Raises:
        ValueError: a file does not fit the model, or the numbers of files and strengths differ.
    """
    from esd_core.erasure import combine
    from esd_core.formats import load_erasure

    erasures = [load_erasure(path, model) for path in paths or ()]
    strengths = strengths or [1.0] * len(erasures)
    if len(strengths) != len(erasures):
        raise ValueError(
            f"{len(erasures)} --erasure and {len(strengths)} --strength; give one strength for each"
        )
    return erasures, combine(model, erasures, strengths) if erasures else None
