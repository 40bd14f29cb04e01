"""The run card of an erasure: what was done to which model, for readers and scripts, and how to do
it again.

Provenance may come from a stranger's file: only what `EraseConfig` accepts is believed, and
everything else is shown as short text.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from esd_core.config import OPTIONS, EraseConfig
from esd_core.erasure import STRENGTHS, Erasure
from esd_core.objective import eta_to_official
from esd_core.repeat import command_line, python_code
from esd_core.selection import DESCRIPTIONS

LIMITS = (
    "An erasure is a fine-tune, not a proof of removal: paraphrases, inverted embeddings or a "
    "little training can bring a concept back, and its neighbours suffer."
)


def config_of(erasure: Erasure) -> EraseConfig | None:
    """The options of its run; None if none are recorded, or none that `EraseConfig` accepts."""
    recorded = erasure.provenance.get("config")
    try:
        return EraseConfig.from_dict(recorded) if isinstance(recorded, dict) else None
    except ValueError:
        return None


def updates(erasure: Erasure) -> int | None:
    """How many updates made it; None if that is not recorded."""
    made = erasure.provenance.get("iterations_done")
    return made if isinstance(made, int) and 0 <= made <= OPTIONS["iterations"].bounds[1] else None


def parts(erasure: Erasure) -> list[tuple[float, Erasure]]:
    """What a sum consists of, as (strength, erasure without tensors); [] for a plain erasure."""
    listed = erasure.provenance.get("parts")
    return [
        (part["strength"], Erasure({}, "", part["provenance"]))
        for part in (listed if isinstance(listed, list) else [])
        if isinstance(part, dict)
        and isinstance(part.get("strength"), int | float)
        and STRENGTHS[0] <= part["strength"] <= STRENGTHS[1]
        and isinstance(part.get("provenance"), dict)
    ]


def concepts(erasure: Erasure, depth: int = 5) -> tuple[str, ...]:
    """The prompts it erases, as far as its record says, in sums of sums down to `depth`."""
    if config := config_of(erasure):
        return tuple(t.concept for t in config.concepts)
    nested = parts(erasure) if depth else []
    if nested:
        return tuple(dict.fromkeys(c for _, part in nested for c in concepts(part, depth - 1)))
    solved = erasure.provenance.get("closed_form")
    if isinstance(solved, dict) and isinstance(solved.get("edits"), dict):
        return tuple(_short(concept) for concept in solved["edits"])
    said = erasure.provenance.get("file_name_says")
    return (_short(said["concept"]),) if isinstance(said, dict) and "concept" in said else ()


def repeatable(erasure: Erasure) -> EraseConfig | None:
    """Options of a run that ends where this one did: a run that was stopped made fewer updates
    than it was asked for, and no update depends on how many follow. None if there are no options
    on record, or the run learned from pictures, which are not kept."""
    config, made = config_of(erasure), updates(erasure)
    if config is None or config.x_t_source == "images":
        return None
    return replace(config, iterations=config.iterations if made is None else made)


def facts(erasure: Erasure) -> dict[str, Any]:
    """All that is known of an erasure, JSON values only."""
    record, config, again = erasure.provenance, config_of(erasure), repeatable(erasure)
    model = _short(record.get("model", "emoji"))  # what a run takes if not told
    return {
        "erases": list(concepts(erasure)),
        "model": model if "model" in record else "not recorded",
        "base": _short(erasure.base) or None,
        "hash": erasure.hash,
        "updates": updates(erasure),
        "seconds": _number(record.get("seconds")),
        "tensors": len(erasure.tensors),
        "parameters": sum(t.numel() for t in erasure.tensors.values()),
        "config": config and config.to_dict(),
        "versions": _versions(record.get("versions")),
        "parts": [
            {
                "strength": strength,
                "erases": list(concepts(part)),
                "updates": updates(part),
                "config": (own := config_of(part)) and own.to_dict(),
            }
            for strength, part in parts(erasure)
        ],
        "command_line": again and command_line(again, model),
        "python": again and python_code(again, model),
    }


def rows(erasure: Erasure) -> list[tuple[str, str]]:
    """The same as (label, text) pairs for a table."""
    known, config = facts(erasure), config_of(erasure)
    listed = [
        ("Erases", ", ".join(known["erases"]) or "not recorded"),
        ("Model", f"{known['model']}, weights {known['base'] or 'not recorded'}"),
        ("Changes", f"{known['parameters']:,} numbers in {known['tensors']} tensors"),
    ]
    for part in known["parts"]:
        erased = ", ".join(part["erases"]) or "not recorded"
        listed.append(("Sum of", f"{erased} at strength {part['strength']:g}"))
    if config is not None:
        listed += _settings(config)
        of = f"{known['updates']} of {config.iterations}"
        time = "" if known["seconds"] is None else f", in {known['seconds']:g} s"
        listed.append(("Updates", f"{of}{time}"))
    if known["versions"]:
        versions = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
        listed.append(("Made with", versions))
    return [*listed, ("Hash", known["hash"])]


def _settings(config: EraseConfig) -> list[tuple[str, str]]:
    counts = {eta_to_official(config.eta, erase_from=bool(t.erase_from)) for t in config.concepts}
    official = " or ".join(f"{count:g}" for count in sorted(counts))
    settings = [
        ("Trains", f"{config.train_method}: {DESCRIPTIONS[config.train_method]}"),
        ("η", f"{config.eta:g} in the paper's units ({official} for the authors' 2025 script)"),
        ("Learning rate", f"{config.learning_rate:g}, batches of {config.batch_size}"),
        (
            "Examples",
            f"{config.trajectories} trajectories of {config.num_inference_steps} steps, "
            f"{config.scheduler}, guidance {config.start_guidance:g}, {config.x_t_source} model",
        ),
        ("Preserve", f"{config.preserve:g}"),
        ("Seed", str(config.seed)),
    ]
    contexts = [f"{t.concept} from {t.erase_from}" for t in config.concepts if t.erase_from]
    return [*settings, *([("Erase from", ", ".join(contexts))] if contexts else [])]


def markdown(erasure: Erasure) -> str:
    """The card for a reader."""
    title = ", ".join(concepts(erasure)) or "an erasure of unknown origin"
    lines = [f"# Erased: {_cell(title)}", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(text)} |" for label, text in rows(erasure)]
    known = facts(erasure)
    if known["command_line"]:
        for head, language, code in (
            ("The same run from the command line", "bash", known["command_line"]),
            ("The same run from Python", "python", known["python"]),
        ):
            lines += ["", f"## {head}", "", f"```{language}", code, "```"]
    return "\n".join([*lines, "", LIMITS, ""])


def as_json(erasure: Erasure) -> str:
    """The card for a script."""
    return json.dumps(facts(erasure), indent=1) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _short(value: Any) -> str:  # noqa: ANN401
    text = str(value) if isinstance(value, str | int | float) else "not readable"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _number(value: Any) -> float | None:  # noqa: ANN401
    return value if isinstance(value, int | float) and abs(value) < 1e12 else None


def _versions(value: Any) -> dict[str, str]:  # noqa: ANN401
    items = list(value.items())[:10] if isinstance(value, dict) else []
    return {_short(name): _short(number) for name, number in items}
