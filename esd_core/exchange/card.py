"""The run card of an erasure: what was done to which model, and how to do it again.

Of a stranger's record only what `EraseConfig` accepts is believed; everything else is shown as short text.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import replace
from typing import Any

from esd_core.config import OPTIONS, PRESETS, EraseConfig, Target, preset, usual_preset
from esd_core.erasure import Erasure
from esd_core.objective import eta_to_official
from esd_core.selection import DESCRIPTIONS

LIMITS = "This proves no removal: paraphrases or a little training can bring it back; its neighbours suffer."


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


def concepts(erasure: Erasure) -> tuple[str, ...]:
    """The prompts it erases, as far as its record says; those of its parts if it is a sum."""
    named = [prompt for _, part in _parts(erasure) or [(1, erasure)] for prompt in _prompts(part)]
    return tuple(dict.fromkeys(named))


def _parts(erasure: Erasure) -> list[tuple[float, Erasure]]:
    """The strength of each part of a sum, and its record, without tensors."""
    return [(part["strength"], Erasure({}, "", part["provenance"])) for part in erasure.parts]


def _prompts(erasure: Erasure) -> list[str]:
    if config := config_of(erasure):
        return [target.concept for target in config.concepts]
    solved, said = (erasure.provenance.get(name) for name in ("closed_form", "file_name_says"))
    if isinstance(solved, dict) and isinstance(solved.get("edits"), dict):
        return [_short(concept) for concept in solved["edits"]]
    return [_short(said["concept"])] if isinstance(said, dict) and "concept" in said else []


def repeatable(erasure: Erasure) -> EraseConfig | None:
    """Options of a run that ends where this one did: a run that was stopped made fewer updates than it was
    asked for, and no update depends on how many follow. None if there are no options on record, or the run
    learned from pictures, which are not kept."""
    config, made = config_of(erasure), updates(erasure)
    if config is None or config.x_t_source == "images":
        return None
    return replace(config, iterations=config.iterations if made is None else made)


def facts(erasure: Erasure) -> dict[str, Any]:
    """All that is known of an erasure, JSON values only."""
    record, again = erasure.provenance, repeatable(erasure)
    model = _short(record.get("model", "emoji"))  # what a run takes if not told
    seconds, told = record.get("seconds"), record.get("versions")
    return {
        **_run(erasure),
        "model": model if "model" in record else "not recorded",
        "base": _short(erasure.base) or None,
        "hash": erasure.hash,
        "seconds": seconds if isinstance(seconds, int | float) and abs(seconds) < 1e12 else None,
        "tensors": len(erasure.tensors),
        "parameters": sum(t.numel() for t in erasure.tensors.values()),
        "versions": {_short(k): _short(told[k]) for k in [*told][:10]} if isinstance(told, dict) else {},
        "parts": [{"strength": strength, **_run(part)} for strength, part in _parts(erasure)],
        "command_line": again and command_line(again, model),
        "python": again and python_code(again, model),
    }


def _run(erasure: Erasure) -> dict[str, Any]:
    config = config_of(erasure)
    return {
        "erases": list(concepts(erasure)),
        "updates": updates(erasure),
        "config": config and config.to_dict(),
    }


def rows(erasure: Erasure) -> list[tuple[str, str]]:
    """The same as (label, text) pairs for a table."""
    known, config = facts(erasure), config_of(erasure)
    lora = f", a LoRA of {len(erasure.changes)} matrices" if erasure.is_lora else ""
    time = "" if known["seconds"] is None else f", in {known['seconds']:g} s"
    parts = (
        f"{', '.join(part['erases']) or 'not recorded'} at strength {part['strength']:g}"
        for part in known["parts"]
    )
    listed = {
        "Erases": ", ".join(known["erases"]) or "not recorded",
        "Model": f"{known['model']}, weights {known['base'] or 'not recorded'}",
        "Holds": f"{known['parameters']:,} weights in {known['tensors']} tensors{lora}",
        "Sum of": "; ".join(parts),
        **(_settings(config) if config else {}),
        "Updates": f"{known['updates']} of {config.iterations}{time}" if config else "",
        "Made with": ", ".join(f"{name} {number}" for name, number in known["versions"].items()),
        "Hash": known["hash"],
    }
    unused = {"Learning rate", "Examples", "Preserve", "Seed"} if config and not config.iterations else {}
    return [(label, text) for label, text in listed.items() if text and label not in unused]


def _settings(config: EraseConfig) -> dict[str, str]:
    counts = sorted({eta_to_official(config.eta, erase_from=bool(t.erase_from)) for t in config.concepts})
    source = f"{config.scheduler}, guidance {config.start_guidance:g}, {config.x_t_source} model"
    low_rank = f"of rank {config.rank}, lam {config.lam:g}, begun at {config.edit:g} of the edit"
    return {
        "Trains": f"{config.train_method}: {DESCRIPTIONS[config.train_method]}",
        "Change": low_rank if config.train_method == "esd-lora" else "",
        "η": f"{config.eta:g} in the paper's units ({' or '.join(map('{:g}'.format, counts))} for the "
        f"authors' 2025 script){', which strengthens it' if counts[0] < 0 else ''}",
        "Learning rate": f"{config.learning_rate:g}, batches of {config.batch_size}",
        "Examples": f"{config.trajectories} trajectories of {config.num_inference_steps} steps, {source}",
        "Preserve": f"{config.preserve:g}",
        "Seed": str(config.seed),
        "Erase from": ", ".join(f"{t.concept} from {t.erase_from}" for t in config.concepts if t.erase_from),
    }


def markdown(erasure: Erasure) -> str:
    """The card for a reader."""
    known = facts(erasure)
    title = ", ".join(known["erases"]) or "an erasure of unknown origin"
    lines = [f"# Erased: {_cell(title)}", "", "| | |", "|---|---|"]
    lines += [f"| {label} | {_cell(text)} |" for label, text in rows(erasure)]
    if known["command_line"]:
        lines += ["", "## The same run from the command line", "", "```bash", known["command_line"], "```"]
        lines += ["", "## The same run from Python", "", "```python", known["python"], "```"]
    return "\n".join([*lines, "", LIMITS, ""])


def as_json(erasure: Erasure) -> str:
    """The card for a script."""
    return json.dumps(facts(erasure), indent=1) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _short(value: Any) -> str:  # noqa: ANN401
    text = str(value) if isinstance(value, str | int | float) else "not readable"
    return text if len(text) <= 200 else f"{text[:200]}…"


def nearest_preset(config: EraseConfig) -> tuple[str, dict[str, Any]]:
    """The preset with the fewest options to change, and those options with their values."""
    own, changes = config.to_dict(), {}
    for name in PRESETS:
        with suppress(ValueError):  # a preset that is not for this train method
            default = preset(name, config.concepts, train_method=config.train_method).to_dict()
            default["train_method"] = preset(name, config.concepts).train_method
            changes[name] = {k: v for k, v in own.items() if v != default[k]}
    return min(changes.items(), key=lambda change: len(change[1]))


def command_line(config: EraseConfig, model: str = "emoji") -> str:
    """The `python -m esd_core erase` command of a run with these options."""
    name, changed = nearest_preset(config)
    words = [] if model == "emoji" else [f"--model={model}"]
    words += [] if name == usual_preset(model) else [f"--preset={name}"]
    contexts, weights = ([getattr(t, side) for t in config.concepts] for side in ("erase_from", "weight"))
    words += [f"--erase-from={context or ''}" for context in contexts if any(contexts)]
    words += [f"--weight={weight!r}" for weight in weights if {*weights} != {1}]
    for option, value in changed.items():
        flag = f"--{option.replace('_', '-')}"
        values = value if isinstance(value, list | tuple) else [value]
        words += [flag if v is True else f"{flag}={v}" for v in values]
    erased = [t.concept for t in config.concepts]
    words += ["--"] if any(concept.startswith("-") for concept in erased) else []
    return shlex.join(["python", "-m", "esd_core", "erase", *words, *erased])


def python_code(config: EraseConfig, model: str = "emoji") -> str:
    """A Python program for the same run."""
    name, changed = nearest_preset(config)
    plain = config.concepts == tuple(Target(t.concept) for t in config.concepts)
    named = [t.concept for t in config.concepts] if plain else list(config.concepts)
    arguments = [name, named[0] if len(named) == 1 else named]
    given = ", ".join([*map(repr, arguments), *(f"{k}={v!r}" for k, v in changed.items())])
    return f"""from esd_core import {"" if plain else "Target, "}erase, load_model, preset

model = load_model({model!r})
config = preset({given})
for step in erase(model, config):
    print(step.iteration, step.loss)
step.erasure.save("erasure.safetensors")"""
