"""The slider of Compare: one pair of pictures, base and erased, of all that were drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import gradio as gr
from PIL.Image import Image
from torch import Tensor

from esd_core import Comparison
from esd_core.exchange import png_parameters
from esd_core.study.figures import to_pil
from ui.server import session
from ui.shared import events, pictures

SIDES = ("base", "erased")


class DrawnPairs(NamedTuple):
    """What a comparison drew, kept for the slider."""

    drawn: dict[str, Tensor]  # side -> bytes `(prompts, seeds, 3, H, W)`, a quarter of the floats
    made: png_parameters.Parameters

    @property
    def labels(self) -> list[str]:
        """One per pair: a prompt with each of its seeds, then the next."""
        made = self.made
        return [f"{p or 'the empty prompt'}, seed {seed}" for p in made.prompts for seed in made.seeds]

    def shown(self, n: int) -> tuple[tuple[Image, ...], str]:
        """One pair as two pictures that tell how they were made, and its caption."""
        place = i, j = divmod(n, len(self.made.seeds))
        two = tuple(
            png_parameters.stamp(
                to_pil(self.drawn[side][place] / 255), replace(self.made, column=side, place=place)
            )
            for side in SIDES
        )
        about = f"{pictures.quoted(self.made.prompts[i])}, seed {self.made.seeds[j]}"
        return two, f'<p class="esd-caption" data-about="{about}">{about}: base left, erased right</p>'


def of(comparison: Comparison, made: png_parameters.Parameters) -> DrawnPairs:
    """All pairs of a comparison."""
    return DrawnPairs({side: (comparison.columns[side] * 255).round().byte() for side in SIDES}, made)


def follow(pairs: DrawnPairs, chosen: str | None) -> tuple[gr.Dropdown, gr.ImageSlider, str]:
    """The list, the slider and its caption after a drawing, which put its first pair there: the
    pair that was chosen stays if it was drawn again."""
    labels = pairs.labels
    n = labels.index(chosen) if chosen in labels else 0
    listed = gr.Dropdown(labels, value=labels[n], visible=len(labels) > 1)
    two, caption = pairs.shown(n)
    return listed, gr.ImageSlider(two, visible=True), caption


def pick(pairs: DrawnPairs | None, chosen: str) -> tuple[tuple[Image, ...], str]:
    """Another pair; nothing changes if the pictures are kept no longer."""
    if pairs is None or chosen not in pairs.labels:
        return gr.skip(), gr.skip()
    return pairs.shown(pairs.labels.index(chosen))


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
    caption = events.html(label="caption", elem_id="compare-caption")
    pairs = gr.State(None, time_to_live=session.LIFETIME)
    chosen.input(pick, [pairs, chosen], [slider, caption], **events.AT_ONCE, **events.LATEST)
    return chosen, slider, caption, pairs
