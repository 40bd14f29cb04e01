"""The command `info`: facts about a model or an erasure's file, as JSON values or for a reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml

import esd_core
from esd_core import selection
from esd_core.cli.options import AsJson, load
from esd_core.vocabulary import Kind

What = Annotated[str, typer.Argument(help="A model, or an erasure's file.")]


def info(what: What = "emoji", as_json: AsJson = False) -> None:
    """Describe a model (parts, train methods, vocabulary) or an erasure (tensors, provenance)."""
    is_file = what.endswith(".safetensors") or Path(what).is_file()
    facts = of_erasure(Path(what)) if is_file else of_model(load(what, "cpu"))
    if as_json:
        typer.echo(json.dumps(facts))
        return
    shown = facts | {"tensors": len(facts["tensors"])} if is_file else facts
    shown = {f"{k} ({len(v)})" if isinstance(v, list) else k: v for k, v in shown.items()}
    layout: dict[str, Any] = dict(default_flow_style=None, width=96, allow_unicode=True)
    typer.echo(yaml.safe_dump(shown, sort_keys=False, **layout), nl=False)


def of_model(model: esd_core.DiffusionModel) -> dict[str, Any]:
    """Parts, what each train method would change, and the vocabulary if there is one."""
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
            facts["train_methods"][method] = selection.count(model.unet, method)
        except ValueError:  # this UNet has no such layers
            facts["train_methods"][method] = 0
    if model.vocabulary:
        for kind in get_args(Kind):
            facts[f"{kind}s"] = [c.name for c in model.vocabulary.of_kind(kind)]
        facts["words"] = sorted(model.vocabulary.words)
    return facts


def of_erasure(path: Path) -> dict[str, Any]:
    """Size, tensors and origin. A file without our metadata is described as far as it goes."""
    from esd_core.erasure import Erasure
    from esd_core.support.files import read_safetensors

    metadata, tensors = read_safetensors(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": path.stat().st_size,
        "format": metadata.get("format", "none recorded (as the authors' 2025 script writes)"),
        "base": metadata.get("base") or None,
        "parameters": sum(t.numel() for n, t in tensors.items() if not n.endswith(".alpha")),  # a scale
        "tensors": {n: list(t.shape) for n, t in tensors.items()},
    }
    if "provenance" in metadata:
        facts["provenance"] = Erasure.from_file(path.name, metadata, tensors).provenance
    return facts
