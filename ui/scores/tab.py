"""The Scores tab: what the two models predict at one noisy latent, and how training moves it."""

from __future__ import annotations

from functools import partial
from inspect import getdoc
from typing import Any, NamedTuple

import gradio as gr

from esd_core import DiffusionModel, Erasure, card
from esd_core.study.noise_predictions import predictions
from ui.scores import panels as score_panels
from ui.scores.panels import CONCEPT, CONTEXT, EDITED, NULL, TARGET, Scene
from ui.server import stream
from ui.shared import events, noisy_latent, pictures, run_stages

INTRO = f"""<div class="esd-intro"><p>At every step of sampling the model is shown a noisy latent
<i>x<sub>t</sub></i> and says which noise is in it: a prediction is <strong>noise, not a
picture</strong>. Below each one stands the picture it implies, what is left of <i>x<sub>t</sub></i>
without that noise, and its lean, cell by cell: <span class="esd-red">red</span> towards the concept
from {NULL} (from {CONTEXT} if it is erased from something), <span class="esd-blue">blue</span> away
from it, white neither. Up to a factor that depends only on <i>t</i>, the noise is minus the score,
the gradient of the log-density of <i>x<sub>t</sub></i>.</p></div>"""
LINE = f"""<h2>Along the difference</h2><p>How far each prediction has gone from {NULL} (0) to
{CONCEPT} (1). The target lies at −η. {EDITED} starts at 1 and is pulled to the target; what it
moves sideways does not show on this line, only in its cosine.</p>"""
LINE_FROM = f"""<h2>Along the difference</h2><p>How far each prediction lies from {CONTEXT} (0) in
the direction that leads from {NULL} to {CONCEPT}, with the distance of those two as unit. The
target lies at −η. {EDITED} starts at 0 and is pulled to the target; what it moves sideways does not
show on this line, only in its cosine.</p>"""
NUMBERS = """<h2>In numbers</h2><p>Size: root mean square over the latent's entries, that is the
norm divided by the root of their number; unit noise has 1. Cosine: of the step away from {centre}
with the difference. To target: size of what is missing to {target}.</p>"""
NOTHING_KEPT = "Erase something first; this then walks through the stages of its training"


class Shown(NamedTuple):
    """What the tab puts on the page, and the numbers for programs."""

    status: Any
    panels: Any
    line: Any
    table: Any
    numbers: Any


def draw(
    model: DiffusionModel,
    erasure: Erasure | None,
    prompt: str,
    seed: int,
    t: float,
    eta: float,
    guidance_scale: float,
    stage: int,
) -> Shown:
    """Noise predictions of the frozen and of this session's edited model at one x_t.

    x_t comes from the frozen model's own guided trajectory for the prompt and seed, at the
    timestep nearest to t. eta scales the target, guidance_scale the guided predictions. stage
    counts the kept stages of the last erasing run: 0 is the frozen model, anything beyond the last
    one means the last. The last value returned has all numbers: sizes (root mean square), positions
    along eps_concept - eps_null, counted from eps_null or from what the concept is erased from,
    cosines with it, and distances to the target.
    """
    with stream.refusals():
        target = noisy_latent.target(model, erasure, prompt)
        drawn, index = noisy_latent.point(model, target, seed, t, eta)
        stages = run_stages.stages(erasure)
        edited = stages[min(max(int(stage), 0), len(stages) - 1)]
        unet = edited.apply(model) if edited else None
        at = predictions(model, drawn, index, eta=eta, unet=unet)
        updates = noisy_latent.updates(edited) if erasure else None
        scene = Scene(at, target.concept, seed, eta, guidance_scale, updates)
        panels = score_panels.html(model, scene)
    text = noisy_latent.where(model, target, drawn, index, seed) + _state(edited, erasure)
    count = None if erasure is None else card.updates(edited) if edited else 0
    numbers = {"t": at.t, "alpha_bar": at.alpha_bar, "updates": count, **at.measures()}
    return Shown(
        pictures.note(text),
        panels,
        _prose(LINE_FROM if scene.from_context else LINE, score_panels.line(scene)),
        _prose(NUMBERS.format(centre=scene.centre, target=TARGET), score_panels.table(scene)),
        numbers,
    )


def _prose(says: str, shows: str) -> str:
    return f'<div class="esd-prose">{says}{shows}</div>'


def _state(edited: Erasure | None, erasure: Erasure | None) -> str:
    """A sentence about the edited model, a stage of the walk to `erasure`."""
    if erasure is None:
        return f" No erasure yet, so {EDITED} = {CONCEPT}."
    config, total = noisy_latent.config(erasure), card.updates(erasure)
    trained = f", trained with η = {config.eta:g}" if config else ""
    done = f"{run_stages.updates(edited)} of {total} updates" if total else noisy_latent.updates(edited)
    return f" <strong>Edited model: after {done}{trained}.</strong>"


def follow(erasure: Erasure | None, seen: str) -> tuple[Any, ...]:
    """When the tab opens: prompt, eta and stages of an erasure made since the last time."""
    if (key := noisy_latent.key(erasure)) == seen:
        return gr.skip(), gr.skip(), gr.skip(), seen
    stages = run_stages.stages(erasure)
    counts = ", ".join(str(run_stages.updates(stage)) for stage in stages)
    stage = gr.Slider(
        maximum=max(len(stages) - 1, 1),
        value=len(stages) - 1,
        interactive=len(stages) > 1,
        info=f"ListedErasure after {counts} updates" if erasure else NOTHING_KEPT,
    )
    config = noisy_latent.config(erasure)
    slider = (
        gr.skip()
        if config is None
        else gr.Slider(value=config.eta, minimum=min(-2, config.eta), maximum=max(5, config.eta))
    )
    return noisy_latent.concept(erasure), slider, stage, key


def build(model: DiffusionModel, erasure: gr.State, tab: gr.Tab) -> None:
    """Lay out the tab: what to look at on the left, what is predicted there on the right."""
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            fields: dict[str, Any] = {"erasure": erasure, **noisy_latent.fields(model)}
            go = gr.Button("Show", variant="primary", elem_id="scores-run")
            fields["t"] = noisy_latent.timestep(model)
            fields["eta"] = gr.Slider(
                -2,
                5,
                1,
                step=0.1,
                label="Erasing strength η",
                buttons=[],
                info="Of the target drawn here; training has used its own",
            )
            fields["guidance_scale"] = gr.Slider(
                -5,
                10,
                4,
                step=0.5,
                label="Guidance scale w",
                buttons=[],
                info="Of the two guided predictions; x_t stays as it is",
            )
            fields["stage"] = gr.Slider(
                0,
                run_stages.STAGES + 1,
                run_stages.STAGES + 1,
                step=1,
                label="Stage of training",
                buttons=[],
                info=NOTHING_KEPT,
                interactive=False,
            )
        with gr.Column(scale=8, min_width=300, elem_id="scores-result"):
            gr.HTML(INTRO, apply_default_css=False)
            status, panels, line, table = (
                gr.HTML(label=label, apply_default_css=False)
                for label in ("status", "panels", "line", "table")
            )
            numbers = gr.JSON(visible=False, label="Numbers")
    wire(model, fields, go, tab, Shown(status, panels, line, table, numbers))


def wire(model: DiffusionModel, fields: dict[str, Any], go: gr.Button, tab: gr.Tab, parts: Shown) -> None:
    """Connect the events. The API has one of them: `scores`."""
    look: dict[str, Any] = dict(
        fn=partial(draw, model),
        inputs_kwargs=fields,
        outputs=list(parts),
        show_progress="hidden",
        trigger_mode="always_last",
        **events.LOOKING,
    )
    private: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    go.click(**look, api_name="scores", api_description=getdoc(draw))
    sliders = [fields[name] for name in ("t", "eta", "guidance_scale", "stage")]
    gr.on([s.input for s in sliders], **look, api_visibility="private")
    seen = gr.State("unseen")
    opened = tab.select(
        follow,
        [fields["erasure"], seen],
        [fields["prompt"], fields["eta"], fields["stage"], seen],
        queue=False,
        **private,
    )
    opened.then(**look, api_visibility="private")
