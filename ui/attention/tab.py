"""The Attention tab: where each word of a prompt looks, in the base model and in the erased one."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

import gradio as gr
import torch
from torch import Tensor

from esd_core import DiffusionModel, Erasure, denoise
from esd_core.study.attention import ALL_LAYERS, END, PADDING, START, attention_maps, layer_labels
from esd_core.study.figures import sequential
from ui.server import stream
from ui.shared import blocks, markup, noisy_latent

IMPLIED = "picture implied"
INTRO = """<div class="esd-intro"><p>In every cross-attention layer each cell of the latent divides
its attention among the tokens of the prompt; the shares of a cell add up to 1, averaged here over
the layer's heads. Bright is where a token gets much. The text encoder adds a <em>start</em> and an
<em>end</em>, and fills up with <em>padding</em> (here added up into one map). It reads from left to
right, so what comes after a word knows of it: a token can get much attention and yet not be what
the picture is about, and the word itself can get little. Both models are shown the same
<i>x<sub>t</sub></i>: what differs is the weights' doing.</p></div>"""


class AttentionView(NamedTuple):
    """What the tab shows, as HTML, and each token's mean share by model for programs."""

    status: str
    cards: str
    shares: dict[str, list[tuple[str, float]]]


def draw(
    model: DiffusionModel, erasure: Erasure | None, prompt: str, seed: int, t: float, layer: str
) -> AttentionView:
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
            seen["erased"] = attention_maps(model, target.concept, x_t, at, erasure.apply(model))
        maps = {name: own.of(layer) for name, own in seen.items()}
    alpha_bar, kind = model.alpha_bar[at], model.prediction_type
    x_0 = torch.cat([denoise.to_x_0(own.output, x_t, alpha_bar, kind) for own in seen.values()])
    erased = "No erasure yet, so only the base model is shown."
    if erasure is not None:
        erased = f"Erased: by {noisy_latent.updates(erasure)}."
    text = (
        f"{noisy_latent.where(model, target, drawn, index, seed)} {erased} "
        "Each token has its own scale, the same for both models; the number is its mean share."
    )
    context = f"{target.concept}, seed {seed}, t {int(at)}"
    cards = _card(IMPLIED, dict(zip(seen, model.decode(x_0), strict=True)), {}, context)
    shares: dict[str, list[tuple[str, float]]] = {name: [] for name in maps}
    for i, token in enumerate(seen["base"].tokens):
        most = max(float(of_tokens[i].max()) for of_tokens in maps.values())
        for name, of_tokens in maps.items():
            shares[name].append((token, float(of_tokens[i].mean())))
        heat = {name: sequential(of_tokens[i], most) for name, of_tokens in maps.items()}
        cards += _card(token, heat, {name: own[i][1] for name, own in shares.items()}, f"{context}, {layer}")
    return AttentionView(markup.note(text), f'<div class="esd-tokens">{cards}</div>', shares)


def _card(token: str, drawn: dict[str, Tensor], shares: dict[str, float], context: str) -> str:
    """One token: its map in each model, with its mean share; or the picture that each implies."""
    kind = "esd-map" if shares else "esd-implied"
    pair = "".join(
        f'<div class="{kind}">{markup.img(picture, f"{token}, {name} model, {context}")}'
        f"<small>{name} {f'{shares[name]:.1%}' if shares else ''}</small></div>"
        for name, picture in drawn.items()
    )
    special = ' class="esd-special"' if token in (START, END, PADDING, IMPLIED) else ""
    return f'<figure><h2{special}>{escape(token)}</h2><div class="esd-pair">{pair}</div></figure>'


def build(model: DiffusionModel, erasure: gr.State, tab: gr.Tab) -> None:
    """Lay out the tab: what to look at on the left, the maps on the right."""
    with blocks.columns():
        with blocks.panel():
            fields, go = noisy_latent.choices(model, erasure, "attention")
            fields["layer"] = gr.Dropdown(
                [ALL_LAYERS, *layer_labels(model.unet)],
                value=ALL_LAYERS,
                filterable=False,
                label="Layer",
                info="In the order in which the UNet runs them",
            )
        with blocks.result(elem_id="attention-result"):
            blocks.html(INTRO)
            parts = [blocks.html(label="status"), blocks.html(label="maps")]
            parts.append(gr.JSON(visible=False, label="Shares"))
    opening = tab, lambda erasure: [noisy_latent.concept(erasure)], ["prompt"]
    noisy_latent.wire(model, draw, "attention", (fields, go, parts), opening)
