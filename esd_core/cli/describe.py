"""Facts about a model or an erasure's file, as JSON values: what `info` shows."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Any, get_args

from esd_core import selection
from esd_core.erasure import FORMAT, Erasure
from esd_core.files import read_safetensors
from esd_core.models import DiffusionModel
from esd_core.vocabulary import Kind


def of_model(model: DiffusionModel) -> dict[str, Any]:
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
    """Size, tensors and origin. A file without our metadata is described as far as it goes.

    Raises:
        ValueError: the file is missing or damaged.
    """
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
    if key == "tensors":
        return [f"{label}: {len(value)}"]
    if isinstance(value, dict):
        nested = [line for k, v in value.items() for line in _lines(k, v, f"{indent}  ")]
        return [f"{label}:", *nested]
    if isinstance(value, list) and value and all(isinstance(v, str) for v in value):
        start = f"{indent}  "
        body = wrap(", ".join(value), 96, initial_indent=start, subsequent_indent=start)
        return [f"{label} ({len(value)}):", *body]
    if isinstance(value, list):
        shown = [", ".join(f"{k} {v}" for k, v in item.items() if v) for item in value]
        return [f"{label}: {'; '.join(shown)}"]
    shown_value = f"{value:,}" if isinstance(value, int) else value
    return [f"{label}: {shown_value}"]
