"""The Erase tab's fields: how they are laid out, what a preset fills in, and the run they describe."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr

from esd_core import PRESETS, TRAIN_METHODS, DiffusionModel, EraseConfig, preset
from esd_core.config import MEMORY_ONLY, OPTIONS, SEEDS, usual_preset
from esd_core.erasing import refuse_nothing
from esd_core.objective import eta_to_official
from esd_core.selection import DESCRIPTIONS, count
from ui.server import stream
from ui.shared import blocks, erasure_text, prompts

# The options that a preset fills in, with what their fields do not have from `esd_core.config`. Its
# other options stay behind the scenes.
FILLED: dict[str, dict[str, Any]] = {
    "iterations": dict(label="Iterations", info=None, min_width=110),
    "learning_rate": dict(label="Learning rate", info=None, step=1e-5),
    "batch_size": dict(label="Batch size"),
    "start_guidance": dict(label="Start guidance", step=0.5),
    "num_inference_steps": dict(label="Sampling steps"),
    "x_t_source": dict(
        label="Whose trajectories", info="edited is the paper's choice, frozen the authors' of 2025"
    ),
    "preserve": dict(label="Preserve", step=0.5),
}
# How refusals begin that are about a field without beginning with its name.
ABOUT = {
    "train_method": ("unknown train method", "rank, lam and edit", "preset "),
    "preset": ("unknown preset",),
    "preserve": ("x_t_source 'images', preserve",),
    "batch_size": ("points 'last'",),
    "eta": ("with eta",),
}
# Why one would choose a method, beyond what `selection.DESCRIPTIONS` says that it trains.
REASONS = {
    "esd-lora": "the usual choice: takes seconds, and changes other prompts least of all methods here",
    "esd-x": "the paper's choice for what is named; of the paper's two, it changes other prompts less",
    "esd-x-strict": "when the change shall be easy to study",
    "esd-u": "when the concept also comes unasked; other pictures change more",
    "esd-all": "when esd-x leaves traces, and damage elsewhere is acceptable",
    "selfattn": "to try whether layout, rather than words, carries the concept",
    "noxattn": "to repeat the paper's experiments on concepts that come unasked",
    "notime": "to repeat the 2023 script",
    "full": "an upper bound: what training everything would do",
    "xlayer": "to see how little is enough",
    "selflayer": "to see how little is enough",
}
# What a preset is, and when to take it.
PRESET_LINES = {
    "live": "For the embedded model: seconds. What the target asks of keys and values is solved for, then "
    "a few updates of the edited model mend it.",
    "edit": "No training: what the target asks of keys and values, solved for. A fraction of a second; other "
    "prompts change more than with live.",
    "live-sd": "For other models: as live, in 50 shorter steps. Not tried on real Stable Diffusion yet.",
    "paper": "The authors' 2023 script: 1000 small updates, each on a fresh trajectory of the "
    "model under training. Minutes to hours; to repeat the paper.",
    "official-2025": "The authors' 2025 script: 200 updates, each on a fresh trajectory of the "
    "frozen model. Minutes.",
    "official-2026": "The authors' trainer of 2026, whose steps for Stable Diffusion are those of 2025.",
}


def main(model: DiffusionModel) -> dict[str, Any]:
    """The choices that matter most."""
    config, lines = preset(usual_preset(model.name), "anything"), methods(model)
    fields: dict[str, Any] = {"train_method": explained(lines, config.train_method, "What is trained")}
    fields["erase_from"] = gr.Textbox(
        "",
        label="Erase it from",
        max_length=300,
        placeholder="Everywhere",
        info="Or only from a prompt, such as the concept “red” from “a red house”",
    )
    says = in_both_units(config.eta, "")
    eta = fields["eta"] = option(config, "eta", label="Erasing strength η", step=0.5, info=says)
    gr.on(
        [eta.change, fields["erase_from"].change],
        lambda *now: gr.Number(info=in_both_units(*now)),
        [eta, fields["erase_from"]],
        eta,
        **blocks.AT_ONCE,
        **blocks.LATEST,
    )
    with gr.Row():
        fields["iterations"] = option(config, "iterations")
        fields["seed"] = option(config, "seed", label="Seed", info=None, min_width=110)
    fields["randomise"] = gr.Checkbox(False, label="New seed for every run", container=False)
    return fields


def advanced(model: DiffusionModel, iterations: gr.Number) -> dict[str, Any]:
    """The rest; a preset fills them in. Where no update is asked for, all but the preset is hidden."""
    usual = usual_preset(model.name)
    config = preset(usual, "anything")
    fields: dict[str, Any] = {"preset": explained(PRESET_LINES, usual, "Preset")}
    with gr.Column() as updating:
        fields |= {name: option(config, name) for name in FILLED if name != "iterations"}
    shows = dict(fn=lambda wanted: gr.Column(visible=wanted != 0 or "hidden"), inputs=iterations)
    iterations.change(**shows, outputs=updating, **blocks.AT_ONCE, **blocks.LATEST)
    if not model.vocabulary:
        fields["preserve"].info += "; of this model, the empty one only"
    return fields


def option(config: EraseConfig, name: str, **how: Any) -> gr.Number | gr.Dropdown:
    """The field of an option, with what its declaration says of it unless told otherwise.

    A number has no bounds: Gradio would refuse what lies beyond them in words of its own.
    """
    declared, value = OPTIONS[name], getattr(config, name)
    how = {"info": declared.help, **FILLED.get(name, {}), **how}
    if declared.choices:
        listed = [choice for choice in declared.choices if choice != "images"]  # which need files
        return gr.Dropdown(listed, value=value, filterable=False, **how)
    return gr.Number(value, precision=0 if declared.kind is int else None, **how)


def explained(lines: dict[str, str], value: str, label: str) -> gr.Dropdown:
    """A list whose info text explains the chosen one."""
    listed = gr.Dropdown(list(lines), value=value, label=label, info=lines[value], filterable=False)
    listed.change(lambda name: gr.Dropdown(info=lines[name]), listed, listed, **blocks.AT_ONCE)
    return listed


def methods(model: DiffusionModel) -> dict[str, str]:
    """Train methods that change something in this UNet, each with a line that says what."""
    total, lines = sum(p.numel() for p in model.unet.parameters()), {}
    for name in TRAIN_METHODS:
        try:
            number = count(model.unet, name)
        except ValueError:  # selects nothing here
            continue
        what, why = (text[0].upper() + text[1:] for text in (DESCRIPTIONS[name], REASONS[name]))
        lines[name] = f"{what}. {why}. {number:,} weights ({number / total:.2g} of the UNet's)."
    return lines


def in_both_units(eta: float | None, erase_from: str) -> str:
    """What η is in the paper, and what the authors' 2025 script calls the chosen one."""
    if eta is None:  # while another is typed
        return "1 is the paper's."
    official = eta_to_official(eta, erase_from=bool((erase_from or "").strip(", \n")))
    aim = "strengthens the concept, and " if official < 0 else ""
    return f"1 is the paper's. This {aim}is --negative_guidance {official:g} of the authors' 2025 script"


def fill(name: str, method: str, before: tuple[str, str]) -> list[Any]:
    """The values of FILLED and the train method after a choice: of another preset all, with its own method;
    of another method those that the preset has other values of.

    A list that only loses the focus tells of a choice, too: as both are what they were `before`, when it was
    opened, that fills in nothing.
    """
    names = (*FILLED, "train_method")
    if name != before[0]:
        return [getattr(preset(name, "anything"), option) for option in names]
    try:
        now, then = (preset(name, "anything", train_method=m) for m in (method, before[1]))
    except ValueError:  # no preset of this method; what is said beside the field says why
        return [stream.SKIP] * len(names)
    values = ((getattr(now, option), getattr(then, option)) for option in names)
    return [value if value != former else stream.SKIP for value, former in values]


def read(model: DiffusionModel, randomise: bool = False, **values: Any) -> EraseConfig:
    """The run that the fields describe, with a new seed each time if `randomise`."""
    erase_from, name = values.pop("erase_from"), values.pop("preset")
    concepts = prompts.targets(model, values.pop("concept"), erase_from)
    config = preset(
        name, concepts, **values | ({"seed": secrets.randbelow(SEEDS[1] + 1)} if randomise else {})
    )
    # The text encoder refuses what it cannot read, and a run what the model reads as the empty prompt.
    refuse_nothing(model, config)
    with prompts.of_context(erase_from):
        model.encode([t.erase_from or "" for t in concepts])
    return config


def check(model: DiffusionModel, **values: Any) -> list[dict[str, Any]]:
    """Before anything runs: which field is wrong, and why, said beside it."""
    wrong, message = "", ""
    try:
        read(model, **values)
    except ValueError as refused:
        message = str(refused)
        wrong = next((n for n in values if message.startswith((f"{n} is ", *ABOUT.get(n, ())))), "concept")
    return [gr.validate(name != wrong, message) for name in values]


def recall(config: EraseConfig) -> dict[str, Any]:
    """The fields that describe a run, but for how little memory it took; `read` inverts it."""
    config = replace(config, **{name: getattr(EraseConfig, name) for name in MEMORY_ONLY})
    shown: dict[str, Any] = {name: getattr(config, name) for name in (*FILLED, "train_method", "eta", "seed")}
    contexts = [t.erase_from or "" for t in config.concepts]
    texts = dict(concept=erasure_text.of_run(config), erase_from=", ".join(contexts) if any(contexts) else "")
    same = all(t.weight == 1 and "," not in t.concept for t in config.concepts)
    for name in PRESETS:
        with suppress(ValueError):  # a preset that is not for this train method
            if same and preset(name, config.concepts, **shown) == config:
                return {**shown, **texts, "preset": name, "randomise": False}
    raise ValueError("its run has options that this page does not show; repeat it with Python")
