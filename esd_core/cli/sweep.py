"""Many runs from one table, over as many processes as there are; a killed sweep goes on later.

Every line of the table is one run, or several: a cell may list values between semicolons, and the
line stands for all their combinations. A run is finished when its folder holds `result.json`; that
file is written last, so whatever a kill cuts off is done again and nothing else is.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from esd_core.cli import run_folder
from esd_core.cli.config_options import OPTIONS
from esd_core.cli.erase_command import in_its_words
from esd_core.config import EraseConfig, preset, usual_preset
from esd_core.erasing import DivergenceError, erase
from esd_core.erasure import Erasure
from esd_core.examples import KeptExamples, origin
from esd_core.files import write_text
from esd_core.models import DiffusionModel
from esd_core.parallel import Team
from esd_core.selection import select
from esd_core.study import figures
from esd_core.study.comparison import compare
from esd_core.study.watched_prompts import to_watch

RESULT, STRIP = "result.json", "strip.png"
SHOWN = ("the concept", "a neighbour", "something unrelated")  # in a strip, each before and after
OWN_COLUMNS = ("concept", "erase_from", "preset")


@dataclass(frozen=True)
class Planned:
    """One run of a sweep."""

    name: str  # of its folder, once `of_model` has settled it
    cells: dict[str, str]  # the table's own words
    config: EraseConfig


def read_table(text: str, model: str = "emoji") -> list[Planned]:
    """The runs of a CSV table with a header, in its order, each once.

    Columns: concept (needed), erase_from, preset (if left out the usual one of `model`, a name) and
    any option of `EraseConfig`; an empty cell means the preset's own value.

    Raises:
        ValueError: a column is unknown, or a line is no valid run; the message names the line.
    """
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    columns = reader.fieldnames or []
    known = (*OWN_COLUMNS, *OPTIONS)
    if unknown := [c for c in columns if c not in known]:
        raise ValueError(f"unknown column {unknown[0]!r}; use any of: {', '.join(known)}")
    if "concept" not in columns:
        raise ValueError("the table needs a header with a column named concept")
    planned: dict[EraseConfig, Planned] = {}
    for row in reader:
        try:
            for cells in _combinations(row):
                config = _config({"preset": usual_preset(model), **cells})
                planned.setdefault(config, Planned(_name(config), cells, config))
        except ValueError as error:
            raise ValueError(f"line {reader.line_num}: {error}") from error
    if not planned:
        raise ValueError("the table has no line below its header")
    return list(planned.values())


def _combinations(row: dict[str, Any]) -> Iterator[dict[str, str]]:
    if None in row or None in row.values():
        raise ValueError("it has more or fewer cells than the header")
    lists = [[part.strip() for part in cell.split(";")] for cell in row.values()]
    for values in itertools.product(*lists):
        yield {column: value for column, value in zip(row, values, strict=True) if value}


def _config(cells: dict[str, str]) -> EraseConfig:
    """A run's options; whatever reads as JSON (numbers, lists) is taken as that."""
    options = {k: v for k, v in cells.items() if k not in OWN_COLUMNS}
    values = {name: _value(text) for name, text in options.items()}
    target = {"concept": cells.get("concept", ""), "erase_from": cells.get("erase_from")}
    config = preset(cells["preset"], [target], **values)  # type: ignore[list-item]
    if config.x_t_source == "images":
        raise ValueError("x_t_source 'images' needs a folder of images; use `erase --images`")
    return config


def _value(text: str) -> Any:  # noqa: ANN401
    try:
        return json.loads(text)
    except ValueError:
        return text


def of_model(planned: list[Planned], model: DiffusionModel) -> list[Planned]:
    """The runs in the model's own words, each once, in folders that other weights do not share.

    Raises:
        ValueError: the model cannot read a concept, or has no weights that a method selects.
    """
    settled: dict[EraseConfig, Planned] = {}
    for run in planned:
        config = in_its_words(model, run.config)
        select(model.unet, config.train_method)
        name = _name(config, model.fingerprint)
        settled.setdefault(config, replace(run, name=name, config=config))
    return list(settled.values())


def _name(config: EraseConfig, base: str = "") -> str:
    """Readable, and different for different options and weights."""
    text = base + json.dumps(config.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    concept = run_folder.slug(config.concepts[0].concept)
    return f"{concept}-{config.train_method}-eta-{config.eta:g}-seed-{config.seed}-{digest[:8]}"


def share(model: DiffusionModel, planned: list[Planned], out: Path, team: Team) -> list[Planned]:
    """This process's part of what is not finished; runs of one teacher stay together.

    The first process looks what is finished, so that all agree on it.
    """
    todo = [p for p in planned if not (out / p.name / RESULT).exists()]
    order = [p.name for p in sorted(todo, key=lambda p: origin(model, p.config))]
    names: list[str] = team.agreed(order)
    first, last = (len(names) * rank // team.size for rank in (team.rank, team.rank + 1))
    return [p for name in names[first:last] for p in planned if p.name == name]


def carry_out(model: DiffusionModel, mine: list[Planned], out: Path) -> Iterator[Planned]:
    """Do the runs one by one; yields each when its files are written."""
    kept = KeptExamples()
    for run in mine:
        record, ending = run_folder.Record(run.config.iterations), "done"
        began = time.perf_counter()
        try:
            for step in erase(model, run.config, examples=kept.find(model, run.config)):
                kept.keep(step.examples)
                record.add(step)
            erasure = step.erasure
        except DivergenceError as error:
            ending, erasure = "diverged", error.erasure
        seconds = time.perf_counter() - began
        folder = out / run.name
        run_folder.save(folder, erasure, record)
        write_text(folder / "config.json", json.dumps(run.config.to_dict(), indent=1) + "\n")
        result = {
            "preset": usual_preset(model.name),
            **run.cells,
            "ending": ending,
            "updates": erasure.provenance["iterations_done"],
            "seconds": round(seconds, 3),
            "last_loss": record.losses[-1] if record.losses else None,
            "held_out_error": record.held_out[-1][1] if record.held_out else None,
            "folder": run.name,
        }
        figures.save_png(strip(model, run.config, erasure), folder / STRIP)
        write_text(folder / RESULT, json.dumps(result) + "\n")
        yield run


def strip(model: DiffusionModel, config: EraseConfig, erasure: Erasure) -> Image.Image:
    """Pictures side by side, no labels: the concept and up to two controls, before and after."""
    first, *controls = (watched.prompt for watched in to_watch(model, config.concepts))
    prompts = [first, *controls[-2:]]
    made = compare(model, erasure.apply(model), prompts, [0], image_size=config.image_size)
    pairs = torch.stack([made.columns["base"], made.columns["erased"]], dim=1)  # (P, 2, 1, 3, H, W)
    return figures.to_pil(torch.cat(list(pairs.flatten(0, 2)), dim=-1))


def sheet(planned: list[Planned], out: Path) -> Image.Image:
    """One row per finished run: what it was, and its strip, all as high as the first.

    A style has fewer controls than an object; its row ends earlier.
    """
    done = [p for p in planned if (out / p.name / RESULT).exists()]
    strips = [_squares(Image.open(out / p.name / STRIP)) for p in done]
    names = ["; ".join(p.cells.values()) for p in done]
    alike = {len(strip) for strip in strips} == {2 * len(SHOWN)}
    columns = max(map(len, strips))
    strips = [_fitted(strip, columns, strips[0].shape[-1]) for strip in strips]
    heads = list(SHOWN) if alike else ["the concept", "controls"]
    labels = [""] * columns
    for index, head in enumerate(heads):
        labels[2 * index] = f"{head}: before, after"
    return figures.sheet(torch.stack(strips), names, labels, scale=1)


def _fitted(strip: Tensor, columns: int, side: int) -> Tensor:
    """`(columns, 3, side, side)`: the same squares, then white ones."""
    squares = F.interpolate(strip, size=(side, side), mode="area")
    return torch.cat([squares, squares.new_ones(columns - len(squares), 3, side, side)])


def _squares(strip: Image.Image) -> Tensor:
    """`(N, 3, H, H)` in [0, 1]."""
    pixels = torch.from_numpy(np.array(strip.convert("RGB"))).permute(2, 0, 1) / 255
    return torch.stack(pixels.split(strip.height, dim=-1))


def gathered(planned: list[Planned], out: Path) -> list[dict[str, Any]]:
    """The results of all finished runs, in the table's order."""
    files = [out / p.name / RESULT for p in planned]
    return [json.loads(file.read_text()) for file in files if file.exists()]


def as_csv(rows: list[dict[str, Any]]) -> str:
    """One line per run; columns that some runs lack are empty there."""
    columns = dict.fromkeys(c for row in rows for c in row if c not in _MEASURED)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*columns, *_MEASURED], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


_MEASURED = ("ending", "updates", "seconds", "last_loss", "held_out_error", "folder")
