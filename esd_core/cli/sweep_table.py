"""A table of runs: every line is one run, or several, as a cell may list values between semicolons; the
line then stands for all their combinations."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from esd_core.cli import run_folder
from esd_core.cli.erase_command import in_its_words
from esd_core.cli.options import SPELLINGS
from esd_core.config import OPTIONS, EraseConfig, preset, usual_preset
from esd_core.models import DiffusionModel
from esd_core.selection import select

OWN_COLUMNS = ("concept", "erase_from", "preset")
COLUMNS = (*OWN_COLUMNS, *(name for name in OPTIONS if name != "concepts"))
SPELLED = {flag.strip("-").replace("-", "_"): name for name, flags in SPELLINGS.items() for flag in flags}


@dataclass(frozen=True)
class Planned:
    """One run of a sweep."""

    name: str  # of its folder, once `of_model` has settled it
    cells: dict[str, str]  # the table's own words
    config: EraseConfig


def read_table(text: str, model: str = "emoji") -> list[Planned]:
    """The runs of a CSV table with a header, in its order, each once; ValueError if it is not right.

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
    """A run's options, from its cells by field."""
    values = {name: _value(name, text) for name, text in cells.items() if name not in OWN_COLUMNS}
    target = {"concept": cells.get("concept", ""), "erase_from": cells.get("erase_from")}
    config = preset(cells["preset"], [target], **values)  # type: ignore[list-item]
    if config.x_t_source == "images":
        raise ValueError("x_t_source 'images' needs a folder of images; use `erase --images`")
    return config


def _value(name: str, text: str) -> Any:  # noqa: ANN401
    """A cell as what the option is; true, false and lists as JSON. `EraseConfig` refuses what is neither."""
    read: dict[type, Any] = {int: int, float: float, str: str}
    try:
        return read.get(OPTIONS[name].kind, json.loads)(text)
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
