"""The command `sweep`: a table of runs in, one table and one sheet out.

Any number of processes share the runs; a killed sweep goes on later. A run is finished when its folder
holds `result.json`; that file is written last, so whatever a kill cuts off is done again and nothing
else is. Heavy modules are imported where they are used, so that `--help` is quick.
"""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from esd_core.cli.options import LOADING, load, note, taking
from esd_core.config import usual_preset

if TYPE_CHECKING:
    from PIL.Image import Image

    from esd_core.cli.run_folder import Run
    from esd_core.cli.sweep_table import Planned
    from esd_core.models import DiffusionModel
    from esd_core.parallel import Team

RESULT, STRIP = "result.json", "strip.png"
SHOWN = ("the concept", "a neighbour", "something unrelated")  # in a strip, each before and after
MEASURED = ("ending", "updates", "seconds", "last_loss", "held_out_error", "folder")

Table = Annotated[
    Path,
    typer.Argument(
        help="CSV with a header: concept, and if you like erase_from, preset and any option of "
        "erase, such as train_method, eta, seed. A cell may list values between semicolons; the "
        "line then stands for all combinations."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the results; default: outputs/<table's name>. Finished runs in it are not repeated."
    ),
]
Processes = Annotated[int, typer.Option(min=1, max=64, help="To spread the runs over.")]


@taking(LOADING)
def sweep(table: Table, out: Out = None, processes: Processes = 1, **options: Any) -> None:
    """Erase many times, over concepts, methods, strengths and seeds; resumes after a kill.

    Writes a folder per run, and over all of them results.csv and sheet.png.
    """
    from esd_core import parallel
    from esd_core.cli import run_folder, sweep_table
    from esd_core.files import write_text
    from esd_core.study import figures

    model, device = options["model"], options["device"]
    planned = sweep_table.read_table(table.read_text(encoding="utf-8"), model)
    out = out or Path("outputs") / table.stem
    run_folder.writable(out / "results.csv")
    if processes > 1:
        raise typer.Exit(launch(processes, table, out, model, device))
    team, device = parallel.join(device)
    loaded = load(model, device)
    planned = sweep_table.of_model(planned, loaded)  # refuses what the model cannot read before any run
    mine = share(loaded, planned, out, team)
    for done, run in enumerate(carry_out(loaded, mine, out), 1):
        note(f"{f'process {team.rank}: ' * (team.size > 1)}{done} of {len(mine)}: {run.name}")
    team.wait()
    team.leave()
    if team.leads:
        write_text(out / "results.csv", as_csv(gathered(planned, out)))
        figures.save_png(sheet(planned, out), out / "sheet.png")
        typer.echo(f"{out / 'results.csv'}\n{out / 'sheet.png'}")


def launch(processes: int, table: Path, out: Path, model: str, device: str | None) -> int:
    """The same command in several processes; its exit code."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(processes)]
    command += ["-m", "esd_core", "sweep", str(table), "--model", model, "--out", str(out)]
    command += ["--device", device] if device else []
    return subprocess.run(command, check=False).returncode


def share(model: DiffusionModel, planned: list[Planned], out: Path, team: Team) -> list[Planned]:
    """This process's part of what is not finished; runs of one teacher stay together.

    The first process looks what is finished, so that all agree on it.
    """
    from esd_core.examples import origin

    todo = [p for p in planned if not (out / p.name / RESULT).exists()]
    order = [p.name for p in sorted(todo, key=lambda p: origin(model, p.config))]
    names: list[str] = team.agreed(order)
    first, last = (len(names) * rank // team.size for rank in (team.rank, team.rank + 1))
    return [p for name in names[first:last] for p in planned if p.name == name]


def carry_out(model: DiffusionModel, mine: list[Planned], out: Path) -> Iterator[Planned]:
    """Do the runs one by one; yields each when its files are written."""
    from esd_core.cli import run_folder
    from esd_core.erasing import DivergenceError, erase
    from esd_core.examples import KeptExamples
    from esd_core.files import write_text
    from esd_core.study import figures

    kept = KeptExamples()
    for planned in mine:
        config, folder = planned.config, out / planned.name
        run, began = run_folder.Run(model, config, folder), time.perf_counter()
        try:
            for step in erase(model, config, examples=kept.find(model, config)):
                kept.keep(step.examples)
                run.add(step)
            seconds, run.ending = time.perf_counter() - began, "done"
            run.save(step.erasure)
        except DivergenceError as error:
            seconds = time.perf_counter() - began
            run.diverge(error.erasure)
        run_folder.write_config(folder, config)
        measured = {**run.summary(), "seconds": round(seconds, 3), "folder": planned.name}
        figures.save_png(strip(run), folder / STRIP)
        result = {"preset": usual_preset(model.name), **planned.cells, **{k: measured[k] for k in MEASURED}}
        write_text(folder / RESULT, json.dumps(result) + "\n")
        yield planned


def strip(run: Run) -> Image:
    """Pictures side by side, no labels: the concept and up to two controls, before and after."""
    import torch

    from esd_core.study import comparison, figures
    from esd_core.study.watched_prompts import to_watch

    model, config = run.model, run.config
    first, *controls = (watched.prompt for watched in to_watch(model, config.concepts))
    edited = run.erasure.apply(model) if run.erasure else model.unet
    made = comparison.compare(model, edited, [first, *controls[-2:]], [0], image_size=config.image_size)
    pairs = torch.stack([made.columns["base"], made.columns["erased"]], dim=1)  # (P, 2, 1, 3, H, W)
    return figures.to_pil(torch.cat(list(pairs.flatten(0, 2)), dim=-1))


def sheet(planned: list[Planned], out: Path) -> Image:
    """One row per finished run: what it was, and its strip, all as high as the first.

    A style has fewer controls than an object; its row ends earlier.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from esd_core.study import figures

    done = [p for p in planned if (out / p.name / RESULT).exists()]
    strips = [Image.open(out / p.name / STRIP).convert("RGB") for p in done]
    lengths, side = [strip.width // strip.height for strip in strips], strips[0].height
    size = (max(lengths) * side, side)
    rows = [np.array(ImageOps.pad(strip, size, color="white", centering=(0, 0))) for strip in strips]
    squares = torch.from_numpy(np.stack(rows)).unflatten(2, (-1, side)).permute(0, 2, 4, 1, 3) / 255
    labels = [""] * max(lengths)
    heads = SHOWN if set(lengths) == {2 * len(SHOWN)} else ("the concept", "controls")
    for index, head in enumerate(heads):
        labels[2 * index] = f"{head}: before, after"
    return figures.sheet(squares, ["; ".join(p.cells.values()) for p in done], labels, scale=1)


def gathered(planned: list[Planned], out: Path) -> list[dict[str, Any]]:
    """The results of all finished runs, in the table's order."""
    files = [out / p.name / RESULT for p in planned]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line per run; columns that some runs lack are empty there."""
    columns = dict.fromkeys(c for row in rows for c in row if c not in MEASURED)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *MEASURED], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
