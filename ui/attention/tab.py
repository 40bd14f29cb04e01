"""The Attention tab: where each word of a prompt looks, in the base model and in the erased one."""

from __future__ import annotations

from functools import partial
from html import escape
from inspect import getdoc
from typing import Any, NamedTuple

import gradio as gr
import torch
from torch import Tensor

from esd_core import DiffusionModel, Erasure, denoise
from esd_core.study.attention import ALL_LAYERS, END, PADDING, START, attention_maps, layer_labels
from esd_core.study.figures import sequential
from ui.server import stream
from ui.shared import events, noisy_latent, pictures

SPECIAL = (START, END, PADDING)
INTRO = """<div class="esd-intro"><p>In every cross-attention layer each cell of the latent divides
its attention among the tokens of the prompt; the shares of a cell add up to 1, averaged here over
the layer's heads. Bright is where a token gets much. The text encoder adds a <em>start</em> and an
<em>end</em>, and fills up with <em>padding</em> (here added up into one map). It reads from left to
right, so what comes after a word knows of it: a token can get much attention and yet not be what
the picture is about, and the word itself can get little. Both models are shown the same
<i>x<sub>t</sub></i>: what differs is the weights' doing.</p></div>"""


class Shown(NamedTuple):
    """What the tab puts on the page, and the numbers for programs."""

    status: Any
    cards: Any
    shares: Any


def draw(
    model: DiffusionModel, erasure: Erasure | None, prompt: str, seed: int, t: float, layer: str
) -> Shown:
    """Cross-attention per token of the frozen and of this session's edited model at one x_t.

    x_t comes from the frozen model's own guided trajectory for the prompt and seed, at the
    timestep nearest to t; both models see the same. The last value returned has, for each token,
    its mean share of the attention in the layer: of the base model and of the erased one.
    """
    with stream.refusals():
        target = noisy_latent.target(model, None, prompt)
        drawn, index = noisy_latent.point(model, target, seed, t)
        x_t, at = drawn.x_t[index : index + 1], drawn.t[index : index + 1]
        seen = {"base": attention_maps(model, target.concept, x_t, at)}
        if erasure is not None:
            unet = erasure.apply(model)
            seen["erased"] = attention_maps(model, target.concept, x_t, at, unet)
        maps = {name: own.of(layer) for name, own in seen.items()}
    alpha_bar, kind = model.alpha_bar[at], model.prediction_type
    x_0 = torch.cat([denoise.to_x_0(s.output, x_t, alpha_bar, kind) for s in seen.values()])
    implied = dict(zip(seen, model.decode(x_0), strict=True))
    text = noisy_latent.where(model, target, drawn, index, seed)
    if erasure is None:
        text += " No erasure yet, so only the base model is shown."
    else:
        text += f" Erased: by {noisy_latent.updates(erasure)}."
    text += " Each token has its own scale, the same for both models; the number is its mean share."
    context = f"{target.concept}, seed {seed}, t {int(at)}"
    cards = _card("picture implied", implied, dict.fromkeys(implied, ""), context)
    tokens = seen["base"].tokens
    for i, token in enumerate(tokens):
        most = max(float(m[i].max()) for m in maps.values())
        heat = {name: sequential(m[i], most) for name, m in maps.items()}
        shares = {name: f"{float(m[i].mean()):.1%}" for name, m in maps.items()}
        cards += _card(token, heat, shares, f"{context}, {layer}")
    numbers = {
        name: [[token, float(m[i].mean())] for i, token in enumerate(tokens)] for name, m in maps.items()
    }
    return Shown(pictures.note(text), f'<div class="esd-tokens">{cards}</div>', numbers)


def _card(token: str, drawn: dict[str, Tensor], shares: dict[str, str], context: str) -> str:
    """One token: its map in each model, with its mean share."""
    pair = "".join(
        f'<div class="{"esd-map" if shares[name] else "esd-implied"}">'
        f"{pictures.img(picture, f'{token}, {name} model, {context}')}"
        f"<small>{name} {shares[name]}</small></div>"
        for name, picture in drawn.items()
    )
    kind = ' class="esd-special"' if token in (*SPECIAL, "picture implied") else ""
    return f'<figure><h2{kind}>{escape(token)}</h2><div class="esd-pair">{pair}</div></figure>'


def follow(erasure: Erasure | None, seen: str) -> tuple[Any, str]:
    """When the tab opens: the concept of an erasure made since the last time."""
    key = noisy_latent.key(erasure)
    return (gr.skip() if key == seen else noisy_latent.concept(erasure)), key


def build(model: DiffusionModel, erasure: gr.State, tab: gr.Tab) -> None:
    """Lay out the tab: what to look at on the left, the maps on the right."""
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            fields: dict[str, Any] = {"erasure": erasure, **noisy_latent.fields(model)}
            go = gr.Button("Show", variant="primary", elem_id="attention-run")
            fields["t"] = noisy_latent.timestep(model)
            fields["layer"] = gr.Dropdown(
                [ALL_LAYERS, *layer_labels(model.unet)],
                value=ALL_LAYERS,
                filterable=False,
                label="Layer",
                info="In the order in which the UNet runs them",
            )
        with gr.Column(scale=8, min_width=300, elem_id="attention-result"):
            gr.HTML(INTRO, apply_default_css=False)
            status, cards = (gr.HTML(label=label, apply_default_css=False) for label in ("status", "maps"))
            shares = gr.JSON(visible=False, label="Shares")
    wire(model, fields, go, tab, Shown(status, cards, shares))


def wire(model: DiffusionModel, fields: dict[str, Any], go: gr.Button, tab: gr.Tab, parts: Shown) -> None:
    """Connect the events. The API has one of them: `attention`."""
    look_at: dict[str, Any] = dict(
        fn=partial(draw, model),
        inputs_kwargs=fields,
        outputs=list(parts),
        show_progress="hidden",
        trigger_mode="always_last",
        **events.LOOKING,
    )
    go.click(**look_at, api_name="attention", api_description=getdoc(draw))
    gr.on([fields["t"].input, fields["layer"].input], **look_at, api_visibility="private")
    seen = gr.State("unseen")
    opened = tab.select(
        follow,
        [fields["erasure"], seen],
        [fields["prompt"], seen],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    opened.then(**look_at, api_visibility="private")
