"""The command `info`: facts about a model or an erasure's file, as JSON values or for a reader."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from esd_core.cli.options import AsJson, load

if TYPE_CHECKING:
    from esd_core.models import DiffusionModel

What = Annotated[str, typer.Argument(help="A model, or an erasure's file.")]


def info(what: What = "emoji", as_json: AsJson = False) -> None:
    """Describe a model (parts, train methods, vocabulary) or an erasure (tensors, provenance)."""
    is_file = what.endswith(".safetensors") or Path(what).is_file()
    facts = of_erasure(Path(what)) if is_file else of_model(load(what, "cpu"))
    typer.echo(json.dumps(facts) if as_json else as_text(facts))


def of_model(model: DiffusionModel) -> dict[str, Any]:
    """Parts, what each train method would change, and the vocabulary if there is one."""
    from esd_core import selection
    from esd_core.vocabulary import Kind

    parts = {"text_encoder": model.text_encoder, "unet": model.unet, "vae": model.vae}
    facts: dict[str, Any] = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "prediction_type": model.prediction_type,
        "image_size": model.image_size,
        "parameters": {n: sum(p.numel() for p in part.parameters()) for n, part in parts.items()},
        "train_methods": {},
    }
    for method in selection.TRAIN_METHODS:
        try:
            names = selection.select(model.unet, method)
        except ValueError:  # this UNet has no such layers
            names = []
        facts["train_methods"][method] = selection.count(model.unet, names)
    if model.vocabulary:
        for kind in get_args(Kind):
            facts[f"{kind}s"] = [c.name for c in model.vocabulary.of_kind(kind)]
        facts["words"] = sorted(model.vocabulary.words)
    return facts


def of_erasure(path: Path) -> dict[str, Any]:
    """Size, tensors and origin. A file without our metadata is described as far as it goes."""
    from esd_core.erasure import FORMAT, Erasure
    from esd_core.files import read_safetensors

    metadata, tensors = read_safetensors(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": metadata.get("format", "none recorded (as the authors' 2025 script writes)"),
        "base": metadata.get("base") or None,
        "parameters": sum(t.numel() for t in tensors.values()),
        "tensors": {n: list(t.shape) for n, t in tensors.items()},
    }
    if metadata.get("format") == FORMAT:
        facts["provenance"] = Erasure.from_file(path.name, metadata, tensors).provenance
    return facts


def as_text(facts: dict[str, Any]) -> str:
    """The same for a reader: lists counted and wrapped, tables indented."""
    return "\n".join(line for key, value in facts.items() for line in _lines(key, value))


def _lines(key: str, value: Any, indent: str = "") -> list[str]:  # noqa: ANN401
    label = f"{indent}{key.replace('_', ' ')}"
    if isinstance(value, dict) and key != "tensors":
        return [f"{label}:", *(line for k, v in value.items() for line in _lines(k, v, f"{indent}  "))]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        inner = f"{indent}  "
        shown = wrap(", ".join(value), 96, initial_indent=inner, subsequent_indent=inner)
        return [f"{label} ({len(value)}):", *shown]
    if isinstance(value, list):
        items = [item if isinstance(item, dict) else {"": item} for item in value]
        value = "; ".join(", ".join(f"{k} {v}".strip() for k, v in item.items() if v) for item in items)
    elif isinstance(value, dict):
        value = len(value)
    return [f"{label}: {value:,}" if isinstance(value, int) else f"{label}: {value}"]
