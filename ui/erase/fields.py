"""The Erase tab's choices: what each is called, what it says of itself, where it starts."""

from __future__ import annotations

from typing import Any

import gradio as gr

from esd_core import TRAIN_METHODS, DiffusionModel, EraseConfig, preset, select
from esd_core.config import OPTIONS, usual_preset
from esd_core.objective import eta_to_official
from esd_core.selection import DESCRIPTIONS, count
from ui.shared import events

# Why one would choose a method, beyond what `selection.DESCRIPTIONS` says that it trains.
REASONS = {
    "esd-x": "the usual choice: prompts that do not name the concept change least",
    "esd-x-strict": "when the file must be small, or the change easy to study",
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
    "live": "For the embedded model: seconds. Examples from a few trajectories, used again and "
    "again, and other prompts held in place.",
    "live-sd": "For other models: 200 small updates as in official-2025, on all points of a few "
    "trajectories. Real Stable Diffusion has not been erased with it yet.",
    "paper": "The authors' 2023 script: 1000 small updates, each on a fresh trajectory of the "
    "model under training. Minutes to hours; to repeat the paper.",
    "official-2025": "The authors' 2025 script: 200 updates, each on a fresh trajectory of the "
    "frozen model. Minutes.",
}


def methods(model: DiffusionModel) -> dict[str, str]:
    """Train methods that change something in this UNet, each with a line that says what."""
    total, lines = sum(p.numel() for p in model.unet.parameters()), {}
    for name in TRAIN_METHODS:
        try:
            number = count(model.unet, select(model.unet, name))
        except ValueError:  # selects nothing here
            continue
        what = DESCRIPTIONS[name][0].upper() + DESCRIPTIONS[name][1:]
        why = REASONS[name][0].upper() + REASONS[name][1:]
        lines[name] = f"{what}. {why}. {number:,} of {total:,} parameters ({number / total:.0%})."
    return lines


def rate(name: str, method: str) -> float:
    """The learning rate that a preset has for a method."""
    return preset(name, "anything", train_method=method).learning_rate


def in_both_units(eta: float | None, erase_from: str) -> str:
    """What η is in the paper, and what the authors' 2025 script calls the chosen one."""
    if eta is None:  # while another is typed
        return "1 is the paper's."
    official = eta_to_official(eta, erase_from=bool((erase_from or "").strip(", \n")))
    return f"1 is the paper's. This is --negative_guidance {official:g} of the authors' 2025 script"


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
    eta = fields["eta"] = gr.Number(
        config.eta, label="Erasing strength η", step=0.5, info=in_both_units(config.eta, "")
    )
    gr.on(
        [eta.change, fields["erase_from"].change],
        lambda *now: gr.Number(info=in_both_units(*now)),
        [eta, fields["erase_from"]],
        eta,
        **events.AT_ONCE,
        **events.LATEST,
    )
    with gr.Row():
        for name in ("iterations", "seed"):
            fields[name] = number(config, name, name.capitalize(), info=None, min_width=110)
    fields["randomise"] = gr.Checkbox(False, label="New seed for every run", container=False)
    return fields


def advanced(model: DiffusionModel) -> dict[str, Any]:
    """The rest; a preset fills them in."""
    usual = usual_preset(model.name)
    config = preset(usual, "anything")
    held = "" if model.vocabulary else "; of this model, the empty one only"
    return {
        "preset": explained(PRESET_LINES, usual, "Preset"),
        "learning_rate": number(config, "learning_rate", "Learning rate", info=None, step=1e-5),
        "batch_size": number(config, "batch_size", "Batch size"),
        "start_guidance": number(config, "start_guidance", "Start guidance", step=0.5),
        "num_inference_steps": number(config, "num_inference_steps", "Sampling steps"),
        "x_t_source": gr.Dropdown(
            [source for source in OPTIONS["x_t_source"].choices if source != "images"],
            value=config.x_t_source,
            label="Whose trajectories",
            filterable=False,
            info="edited is the paper's choice, frozen the authors' of 2025",
        ),
        "preserve": number(config, "preserve", "Preserve", info=OPTIONS["preserve"].help + held, step=0.5),
    }


def number(config: EraseConfig, name: str, label: str, **more: Any) -> gr.Number:  # noqa: ANN401
    """The field of an option, with what its declaration says of it unless told otherwise.

    It has no bounds: Gradio would refuse a number outside of them in words of its own.
    """
    option = OPTIONS[name]
    whole = dict(precision=0) if option.kind is int else {}
    return gr.Number(getattr(config, name), label=label, **{"info": option.help, **whole, **more})


def explained(lines: dict[str, str], value: str, label: str) -> gr.Dropdown:
    """A list whose info text explains the chosen one."""
    listed = gr.Dropdown(list(lines), value=value, label=label, info=lines[value], filterable=False)
    listed.change(lambda name: gr.Dropdown(info=lines[name]), listed, listed, **events.AT_ONCE)
    return listed
