"""What Scores and Attention share: the noisy latent that is looked at, and following the session."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from esd_core import DiffusionModel, EraseConfig, Erasure, Target, card
from esd_core.config import SEEDS
from esd_core.study.noise_predictions import STEPS, nearest, timesteps, trajectory
from esd_core.teacher import Pairs
from ui.shared import blocks, erasure_text, markup, prompts
from ui.shared.blocks import Parts


def choices(model: DiffusionModel, erasure: gr.State, name: str) -> tuple[Parts, gr.Button]:
    """Lay out which prompt, which noise and which point of the trajectory; the button shows it."""
    prompt = prompts.field(model, "Prompt", "Pick one, or type words the model knows")
    seed = gr.Number(1, label="Seed", precision=0, minimum=0, maximum=SEEDS[1])
    go = gr.Button("Show", variant="primary", elem_id=f"{name}-run")
    first, *_, before, last = timesteps(model)
    says = f"{first} is almost pure noise, {last} almost clean"
    t = blocks.slider("Timestep t", (last, first), timesteps(model)[STEPS // 4], before - last, says)
    return dict(erasure=erasure, prompt=prompt, seed=seed, t=t), go


def wire(
    model: DiffusionModel,
    draw: Callable[..., Any],
    name: str,
    asked: tuple[Parts, gr.Button, list[Any]],
    opening: tuple[gr.Tab, Callable[[Erasure | None], list[Any]], list[str]],
) -> None:
    """Draw when it is asked for, when a field is moved, and when the tab opens.

    Args:
        draw: what looks at the latent; the API has it under `name`.
        asked: its fields by name, the button, its outputs.
        opening: the tab, and what fields, by their names, become after another erasure was made.
    """
    (fields, go, outputs), (tab, follow, followed) = asked, opening
    look: dict[str, Any] = dict(fn=partial(draw, model), inputs_kwargs=fields, outputs=outputs)
    look |= dict(show_progress="hidden", **blocks.LATEST, **blocks.LOOKING)
    go.click(**look, **blocks.public(name, draw))
    moved = [field.input for key, field in fields.items() if key not in ("erasure", "prompt", "seed")]
    gr.on(moved, **look, api_visibility="private")
    outs = [*(fields[key] for key in followed), gr.State("unseen")]
    latest = partial(follow_once, follow)
    opened = tab.select(latest, [fields["erasure"], outs[-1]], outs, **blocks.AT_ONCE)
    opened.then(**look, api_visibility="private")


def follow_once(
    follow: Callable[[Erasure | None], list[Any]], erasure: Erasure | None, seen: str
) -> tuple[Any, ...]:
    """What `follow` makes of an erasure that was made since the last time, and what tells it from others."""
    key, values = json.dumps(erasure.provenance, sort_keys=True) if erasure else "", follow(erasure)
    return (*values, key) if key != seen else (*(gr.skip() for _ in values), key)


def target(model: DiffusionModel, erasure: Erasure | None, prompt: str) -> Target:
    """The concept a prompt names; erased from what the visitor's erasure erases it from."""
    phrase = prompts.phrase(model, prompt)
    made = config(erasure)
    known = made.concepts if made else ()
    return next((t for t in known if t.concept == phrase), Target(phrase))


def point(model: DiffusionModel, target: Target, seed: int, t: float, eta: float = 1.0) -> tuple[Pairs, int]:
    """The trajectory, and which of its points is meant."""
    EraseConfig((target,), seed=seed, eta=eta)  # refuses what no run could have
    drawn = trajectory(model, target, seed)
    return drawn, nearest(drawn, t)


def where(model: DiffusionModel, target: Target, drawn: Pairs, index: int, seed: int) -> str:
    """A sentence that says what x_t is."""
    signal = float(model.alpha_bar[drawn.t[index]])
    return (
        f"<i>x<sub>t</sub></i> at <i>t</i> = {int(drawn.t[index])} is from the frozen model's own "
        f"guided trajectory for {markup.quoted(target.drawn)}, seed {seed} ({STEPS} steps, guidance "
        f"{EraseConfig.start_guidance:g}): √{signal:.3f} <i>x</i><sub>0</sub> + √{1 - signal:.3f} "
        "noise."
    )


def config(erasure: Erasure | None) -> EraseConfig | None:
    """The options of the run that made it; files from elsewhere may not know them, or lie."""
    return card.config_of(erasure) if erasure else None


def concept(erasure: Erasure | None) -> Any:
    """What the erasure erases, for the prompt's field; it stays as it is if there is none."""
    made = config(erasure)
    return made.concepts[0].concept if made else gr.skip()


def updates(erasure: Erasure | None) -> str:
    """What made a stage of a walk, for a reader."""
    return erasure_text.made_by(erasure) or "an unknown number of updates" if erasure else "0 updates"
