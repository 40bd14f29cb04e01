"""The slider of Compare: one pair of pictures, base and erased, of all that were drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr
from torch import Tensor

from esd_core import Comparison
from esd_core.study import png_parameters
from esd_core.study.figures import to_pil
from ui.server import session
from ui.shared import pictures

SIDES = ("base", "erased")


class Pairs(NamedTuple):
    """What a comparison drew, kept for the slider."""

    drawn: dict[str, Tensor]  # side -> bytes `(prompts, seeds, 3, H, W)`, a quarter of the floats
    made: png_parameters.Parameters

    @property
    def labels(self) -> list[str]:
        """One per pair: a prompt with each of its seeds, then the next."""
        return [
            f"{prompt or 'the empty prompt'}, seed {seed}"
            for prompt in self.made.prompts
            for seed in self.made.seeds
        ]


def of(comparison: Comparison, made: png_parameters.Parameters) -> Pairs:
    """All pairs of a comparison."""
    drawn = {side: (comparison.columns[side] * 255).round().byte() for side in SIDES}
    return Pairs(drawn, made)


def shown(pairs: Pairs, n: int) -> tuple[Any, str]:
    """One pair as two pictures that tell how they were made, and its caption."""
    place = divmod(n, len(pairs.made.seeds))
    two = tuple(
        png_parameters.stamp(
            to_pil(pairs.drawn[side][place] / 255), replace(pairs.made, column=side, place=place)
        )
        for side in SIDES
    )
    about = f"{pictures.quoted(pairs.made.prompts[place[0]])}, seed {pairs.made.seeds[place[1]]}"
    caption = f'<p class="esd-caption" data-about="{about}">{about}: base left, erased right</p>'
    return two, caption


def follow(pairs: Pairs, chosen: str | None) -> tuple[Any, Any, Any]:
    """The list, the slider and its caption after a drawing, which put its first pair there: the
    pair that was chosen stays if it was drawn again."""
    labels = pairs.labels
    n = labels.index(chosen) if chosen in labels else 0
    listed = gr.Dropdown(labels, value=labels[n], visible=len(labels) > 1)
    two, caption = shown(pairs, n)
    return listed, gr.ImageSlider(two, visible=True), caption


def pick(pairs: Pairs | None, chosen: str) -> tuple[Any, Any]:
    """Another pair; nothing changes if the pictures are kept no longer."""
    if pairs is None or chosen not in pairs.labels:
        return gr.skip(), gr.skip()
    return shown(pairs, pairs.labels.index(chosen))


def build() -> tuple[gr.Dropdown, gr.ImageSlider, gr.HTML, gr.State]:
    """Lay out the list, which has no place while there is but one pair, the slider, its caption."""
    chosen = gr.Dropdown(
        [], label="Before and after", visible=False, filterable=False, elem_id="compare-pair"
    )
    slider = gr.ImageSlider(
        type="pil",
        format="png",
        interactive=False,
        visible=False,
        buttons=[],
        label="base and erased",
        show_label=False,
        elem_id="compare-slider",
    )
    caption = gr.HTML(label="caption", elem_id="compare-caption", apply_default_css=False)
    pairs = gr.State(None, time_to_live=session.LIFETIME)
    chosen.input(
        pick,
        [pairs, chosen],
        [slider, caption],
        queue=False,
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="always_last",
    )
    return chosen, slider, caption, pairs
