"""The Scores tab: what the two models predict at one noisy latent, and how training moves it."""

from __future__ import annotations

from typing import Any, NamedTuple

import gradio as gr

from esd_core import DiffusionModel, Erasure, card
from esd_core.study.noise_predictions import predictions
from ui.scores import panels as score_panels
from ui.scores.panels import CONCEPT, CONTEXT, EDITED, NULL, TARGET, LabelledPredictions
from ui.server import stream
from ui.shared import blocks, erasure_stages, erasure_text, markup, noisy_latent

INTRO = f"""<div class="esd-intro"><p>At every step of sampling the model is shown a noisy latent
<i>x<sub>t</sub></i> and says which noise is in it: a prediction is <strong>noise, not a
picture</strong>. Below each one stands the picture it implies, what is left of <i>x<sub>t</sub></i>
without that noise, and its lean, cell by cell: <span class="esd-red">red</span> towards the concept
from {NULL} (from {CONTEXT} if it is erased from something), <span class="esd-blue">blue</span> away
from it, white neither. Up to a factor that depends only on <i>t</i>, the noise is minus the score,
the gradient of the log-density of <i>x<sub>t</sub></i>.</p></div>"""
LINE = """<h2>Along the difference</h2><p>How far each prediction {lies}. The target lies at −η. {edited}
starts at {start} and is moved to the target; what it moves sideways does not show on this line, only in
its cosine.</p>"""
FROM_NULL = f"has gone from {NULL} (0) to {CONCEPT} (1)"
FROM_CONTEXT = f"""lies from {CONTEXT} (0) in the direction that leads from {NULL} to {CONCEPT}, with the
distance of those two as unit"""
NUMBERS = """<h2>In numbers</h2><p>Size: root mean square over the latent's entries, that is the
norm divided by the root of their number; unit noise has 1. Cosine: of the step away from {centre}
with the difference. To target: size of what is missing to {target}.</p>"""
NOTHING_KEPT = "Erase something first; this then walks through the stages of its training"


class ScoresView(NamedTuple):
    """What the tab shows, as HTML, and the numbers for programs."""

    status: str
    panels: str
    line: str
    table: str
    numbers: dict[str, Any]


def draw(
    model: DiffusionModel,
    erasure: Erasure | None,
    prompt: str,
    seed: int,
    t: float,
    eta: float,
    guidance_scale: float,
    stage: int,
) -> ScoresView:
    """Noise predictions of the frozen and of this session's edited model at one x_t.

    x_t comes from the frozen model's own guided trajectory for the prompt and seed, at the timestep nearest
    to t. eta scales the target, guidance_scale the guided predictions. stage counts the kept stages of the
    last erasing run: 0 is the frozen model, anything beyond the last one means the last. The last value
    returned has all numbers: sizes (root mean square), positions along eps_concept - eps_null, counted from
    eps_null or from what the concept is erased from, cosines with it, and distances to the target.
    """
    with stream.refusals():
        target = noisy_latent.target(model, erasure, prompt)
        drawn, index = noisy_latent.point(model, target, seed, t, eta)
        stages = erasure_stages.stages(erasure)
        edited = stages[min(max(int(stage), 0), len(stages) - 1)]
        unet = edited.apply(model) if edited else None
        at = predictions(model, drawn, index, eta=eta, unet=unet)
        trained = ("trained", f"after {noisy_latent.updates(edited)}") if erasure else ()
        seen = LabelledPredictions(at, target.concept, seed, eta, guidance_scale, *trained)
        panels = score_panels.html(model, seen)
    text = noisy_latent.where(model, target, drawn, index, seed) + _state(edited, erasure)
    count = None if erasure is None else card.updates(edited) if edited else 0
    lies, start = (FROM_CONTEXT, 0) if seen.from_context else (FROM_NULL, 1)
    line = LINE.format(lies=lies, start=start, edited=EDITED)
    numbers = NUMBERS.format(centre=seen.centre, target=TARGET)
    return ScoresView(
        markup.note(text),
        panels,
        f'<div class="esd-prose">{line}{score_panels.line(seen)}</div>',
        f'<div class="esd-prose">{numbers}{score_panels.numbers(seen)}</div>',
        {"t": at.t, "alpha_bar": at.alpha_bar, "updates": count, **at.measures()},
    )


def _state(edited: Erasure | None, erasure: Erasure | None) -> str:
    """A sentence about the edited model, a stage of the walk to `erasure`."""
    if erasure is None:
        return f" No erasure yet, so {EDITED} = {CONCEPT}."
    done = noisy_latent.updates(edited)
    return f" <strong>Edited model: {erasure_text.named(erasure)}, here after {done}.</strong>"


def follow(erasure: Erasure | None) -> list[Any]:
    """Prompt, eta and stages after an erasure was made."""
    stages, config, eta = erasure_stages.stages(erasure), noisy_latent.config(erasure), gr.skip()
    counts = ", ".join(noisy_latent.updates(stage) for stage in stages[1:])
    stage = gr.Slider(
        maximum=max(len(stages) - 1, 1),
        value=len(stages) - 1,
        interactive=len(stages) > 1,
        info=f"0 is the frozen model, the others after {counts}" if erasure else NOTHING_KEPT,
    )
    if config is not None:
        eta = gr.Slider(value=config.eta, minimum=min(-2, config.eta), maximum=max(5, config.eta))
    return [noisy_latent.concept(erasure), eta, stage]


def build(model: DiffusionModel, erasure: gr.State, tab: gr.Tab) -> None:
    """Lay out the tab: what to look at on the left, what is predicted there on the right."""
    last = erasure_stages.STAGES + 1
    with blocks.columns():
        with blocks.panel():
            fields, go = noisy_latent.choices(model, erasure, "scores")
            own = "Of the target drawn here; training has used its own"
            fields["eta"] = blocks.slider("Erasing strength η", (-2, 5), 1, 0.1, own)
            two = "Of the two guided predictions; x_t stays as it is"
            fields["guidance_scale"] = blocks.slider("Guidance scale w", (-5, 10), 4, 0.5, two)
            fields["stage"] = blocks.slider(
                "Stage of training", (0, last), last, 1, NOTHING_KEPT, interactive=False
            )
        with blocks.result(elem_id="scores-result"):
            blocks.html(INTRO)
            parts = [blocks.html(label=label) for label in ("status", "panels", "line", "table")]
            parts.append(gr.JSON(visible=False, label="Numbers"))
    noisy_latent.wire(model, draw, "scores", (fields, go, parts), (tab, follow, ["prompt", "eta", "stage"]))
