"""The command line: `python -m esd_core erase | sweep | evaluate | sample | compare | ...`.

Bad input is one sentence on stderr and exit code 2. Results go to stdout, progress and warnings to
stderr. Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import esd_core
from esd_core.cli.drawing_commands import compare, evaluate, probe, sample
from esd_core.cli.erase_command import erase
from esd_core.cli.info_command import info
from esd_core.cli.options import LOADING, load, taking
from esd_core.cli.sweep_command import sweep

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
for command in (erase, sweep, sample, compare, probe, evaluate, info):
    app.command()(command)
export = typer.Typer(no_args_is_help=True, help="Write an erasure in somebody else's format.")
app.add_typer(export, name="export")

ErasureFile = Annotated[Path, typer.Argument(help="An erasure's .safetensors file.")]
NewFile = Annotated[Path, typer.Argument(help="New .safetensors file.")]
NewFolder = Annotated[Path, typer.Argument(help="New folder.")]
Strength = Annotated[float, typer.Option(min=-10, max=10, help="1 is as trained.")]


@export.command("official")
@taking({"model": LOADING["model"]})
def export_official(erasure: ErasureFile, out: NewFile, **options: Any) -> None:
    """Whole matrices alone, as the authors' 2025 script saves and loads them."""
    from esd_core.exchange.formats import write_official

    made = esd_core.Erasure.load(erasure)
    typer.echo(write_official(made, out, load(options["model"], "cpu") if made.is_lora else None))


@export.command("kohya")
def export_kohya(erasure: ErasureFile, out: NewFile) -> None:
    """A LoRA as kohya-ss/sd-scripts names it and web interfaces read it; of esd-lora's erasures only."""
    from esd_core.exchange.formats import write_kohya

    typer.echo(write_kohya(esd_core.Erasure.load(erasure), out))


@export.command("diffusers")
@taking({"model": LOADING["model"]})
def export_diffusers(erasure: ErasureFile, out: NewFolder, strength: Strength = 1.0, **options: Any) -> None:
    """A complete diffusers pipeline with the erasure applied."""
    from esd_core.exchange.formats import load_erasure, write_diffusers

    loaded = load(options["model"], "cpu")
    typer.echo(write_diffusers(loaded, load_erasure(erasure, loaded), out, strength))
