"""The command `sweep`: a table of runs in, one table and one sheet out.

Any number of processes share the runs; a killed sweep goes on later. A run is finished when its folder
holds `result.json`; that file is written last, so whatever a kill cuts off is done again and nothing else is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

import esd_core
from esd_core.cli.erase_command import in_its_words
from esd_core.cli.options import LOADING, SPELLINGS, load, note, slug, taking, writable
from esd_core.config import OPTIONS, EraseConfig, preset, usual_preset
from esd_core.selection import select

if TYPE_CHECKING:
    from PIL.Image import Image

    from esd_core.cli.erasing_run import Run
    from esd_core.support.parallel import Team

RESULT, STRIP = "result.json", "strip.png"
MEASURED = ("ending", "updates", "seconds", "last_loss", "held_out_error", "folder")
OWN_COLUMNS = ("concept", "erase_from", "preset")
COLUMNS = (*OWN_COLUMNS, *(name for name in OPTIONS if name != "concepts"))
SPELLED = {flag[2:].replace("-", "_"): name for name in OPTIONS for flag in SPELLINGS.get(name, ())}

Table = Annotated[Path, typer.Argument(help="CSV with a header.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; default: outputs/<table's name>.")]
Processes = Annotated[int, typer.Option(min=1, max=64, help="To spread the runs over.")]


@taking(LOADING)
def sweep(table: Table, out: Out = None, processes: Processes = 1, **options: Any) -> None:
    """Erase many times, over concepts, methods, strengths and seeds; resumes after a kill.

    Columns of the table: concept, and if you like erase_from, preset and any option of `erase`, such as eta.
    A cell may list values between semicolons; the line then stands for all combinations. Writes a folder per
    run, where no finished one is repeated, and over all of them results.csv and sheet.png.
    """
    from esd_core.support import parallel

    model, device = options["model"], options["device"]
    runs = read_table(table.read_text(encoding="utf-8"), model)
    out = out or Path("outputs") / table.stem
    writable(out / "results.csv")
    if processes > 1:  # the same command in each
        launch = f"-m torch.distributed.run --standalone --nproc-per-node {processes} -m esd_core".split()
        again = ["sweep", str(table), "--model", model, "--out", str(out)]
        again += ["--device", device] if device else []
        raise typer.Exit(subprocess.run([sys.executable, *launch, *again], check=False).returncode)
    team, device = parallel.join(device)
    loaded = load(model, device)
    planned = plan(loaded, runs)  # refuses what the model cannot read before any run
    mine = share(loaded, planned, out, team)
    for done, run in enumerate(carry_out(loaded, mine, out), 1):
        note(f"{f'process {team.rank}: ' * (team.size > 1)}{done} of {len(mine)}: {run.name}")
    team.wait()
    team.leave()
    if team.leads:
        tabulate(planned, out)
        typer.echo(f"{out / 'results.csv'}\n{out / 'sheet.png'}")


class Planned(NamedTuple):
    """One run of a sweep."""

    name: str  # of its folder: readable, and different for different options and weights
    cells: dict[str, str]  # the table's own words
    config: EraseConfig


def read_table(text: str, model: str = "emoji") -> dict[EraseConfig, dict[str, str]]:
    """The runs of a CSV table with a header, in its order, each with its cells; ValueError if it is wrong.

    Columns: concept (needed), erase_from, preset (if left out the usual one of `model`, a name) and
    any option of `EraseConfig`, spelled as its field or as on the command line; an empty cell means
    the preset's own value.
    """
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    names = [column.strip(" -").replace("-", "_") for column in reader.fieldnames or []]
    reader.fieldnames = fields = [SPELLED.get(name, name) for name in names]
    if unknown := [name for name in fields if name not in COLUMNS]:
        raise ValueError(f"unknown column {unknown[0]!r}; use any of: {', '.join(COLUMNS)}")
    if "concept" not in fields:
        raise ValueError("the table needs a header with a column named concept")
    if twice := [name for name in fields if fields.count(name) > 1]:
        raise ValueError(f"two columns stand for {twice[0]}; leave one out")
    found: dict[EraseConfig, dict[str, str]] = {}
    for row in reader:
        try:
            if None in row or None in row.values():
                raise ValueError("it has more or fewer cells than the header")
            lists = [[part.strip() for part in cell.split(";")] for cell in row.values()]
            for values in itertools.product(*lists):
                cells = {column: value for column, value in zip(row, values, strict=True) if value}
                found.setdefault(_config({"preset": usual_preset(model), **cells}), cells)
        except ValueError as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
    if not found:
        raise ValueError("the table has no line below its header")
    return found


def _config(cells: dict[str, str]) -> EraseConfig:
    """A run's options, from its cells by field: numbers and texts, or JSON for true, false and lists."""
    target = {"concept": cells.get("concept", ""), "erase_from": cells.get("erase_from")}
    values: dict[str, Any] = {name: text for name, text in cells.items() if name not in OWN_COLUMNS}
    for name, text in values.items():
        with suppress(ValueError):  # `EraseConfig` refuses the text
            values[name] = {int: int, float: float, str: str}.get(OPTIONS[name].kind, json.loads)(text)
    config = preset(cells["preset"], [target], **values)  # type: ignore[list-item]
    if config.x_t_source == "images":
        raise ValueError("x_t_source 'images' needs a folder of images; use `erase --images`")
    return config


def plan(model: esd_core.DiffusionModel, table: dict[EraseConfig, dict[str, str]]) -> list[Planned]:
    """The runs of a table in the model's own words, each once.

    Raises:
        ValueError: the model cannot read a concept, or has no weights that a method selects.
    """
    planned: dict[EraseConfig, Planned] = {}
    for asked, cells in table.items():
        config = in_its_words(model, asked)
        select(model.unet, config.train_method)
        text = model.fingerprint + json.dumps(config.to_dict(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        concept = slug(config.concepts[0].concept)
        name = f"{concept}-{config.train_method}-eta-{config.eta:g}-seed-{config.seed}-{digest}"
        planned.setdefault(config, Planned(name, cells, config))
    return list(planned.values())


def share(model: esd_core.DiffusionModel, planned: list[Planned], out: Path, team: Team) -> list[Planned]:
    """This process's part of what is not finished; runs of one teacher stay together.

    The first process looks what is finished, so that all agree on it.
    """
    from esd_core.examples import origin

    todo = [p for p in planned if not (out / p.name / RESULT).exists()]
    order: list[Planned] = team.everyones(sorted(todo, key=lambda p: origin(model, p.config)))[0]
    return [order[i] for i in team.mine(len(order))]


def carry_out(model: esd_core.DiffusionModel, mine: list[Planned], out: Path) -> Iterator[Planned]:
    """Do the runs one by one; yields each when its files are written."""
    from esd_core.cli.erasing_run import Run
    from esd_core.study import figures
    from esd_core.support.files import write_text

    kept = esd_core.KeptExamples()
    for planned in mine:
        run = Run(model, planned.config, out / planned.name)
        try:
            for step in esd_core.erase(model, run.config, examples=kept.find(model, run.config)):
                kept.keep(step.examples)
                run.add(step)
            run.save(step.erasure)
            run.ending = "done"
        except esd_core.DivergenceError as error:
            run.diverge(error.erasure)
        figures.save_png(strip(planned, run), run.folder / STRIP)
        measured = {**run.summary(), "folder": planned.name}
        result = {"preset": usual_preset(model.name), **planned.cells, **{k: measured[k] for k in MEASURED}}
        write_text(run.folder / RESULT, json.dumps(result) + "\n")
        yield planned


def strip(planned: Planned, run: Run) -> Image:
    """The concept and up to two controls, before and after."""
    import torch

    from esd_core.study import figures
    from esd_core.study.watched_prompts import to_watch

    first, *controls = (watched.prompt for watched in to_watch(run.model, run.config.concepts))
    edited = run.erasure.apply(run.model) if run.erasure else run.model.unet
    prompts, size = [first, *controls[-2:]], run.config.image_size
    made = esd_core.compare(run.model, edited, prompts, [0], image_size=size)
    pairs = torch.stack([made.columns["base"], made.columns["erased"]], dim=2)  # (P, 1, 2, 3, H, W)
    heads = [head for prompt in prompts for head in (prompt or "(empty prompt)", "")]
    said = "; ".join(planned.cells.values())
    return figures.sheet(pairs.flatten(0, 2)[None], [""], heads, scale=1, title=said)


def tabulate(planned: list[Planned], out: Path) -> None:
    """Write the results of all finished runs: results.csv and, a strip each, sheet.png."""
    from pandas import DataFrame
    from PIL import Image

    from esd_core.study import figures
    from esd_core.support.files import write_text

    done = [out / p.name for p in planned if (out / p.name / RESULT).exists()]
    results = DataFrame([json.loads((folder / RESULT).read_text()) for folder in done], dtype=object)
    columns = [name for name in results if name not in MEASURED]
    write_text(out / "results.csv", results[[*columns, *MEASURED]].to_csv(index=False))
    strips = [[Image.open(folder / STRIP)] for folder in done]
    figures.save_png(figures.table(strips, 0), out / "sheet.png")
