"""The pictures of a comparison on the page: a table of all, and one pair, base and erased, on a slider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup
from PIL.Image import Image
from torch import Tensor

from esd_core import Comparison
from esd_core.exchange.png_parameters import Parameters, stamp
from esd_core.study.figures import to_pil
from ui.server import memory
from ui.shared import blocks, markup

SIDES = ("base", "erased")
LARGEST = 512  # pixels a side in the table


def table(comparison: Comparison, made: Parameters) -> Markup:
    """A row per prompt and seed, a column per model, all from the same noise."""
    states = {"erased": f"erased at strength {made.strength:g}"}

    def cells(place: tuple[int, int], of: str) -> Iterator[Markup]:
        for name, drawn in comparison.columns.items():
            alt = f"{of}, {states.get(name, name)}"
            yield markup.img(drawn[place], alt, LARGEST, replace(made, column=name, place=place))

    rows = [
        [
            Markup("{}<small>seed {}</small>").format(markup.quoted(prompt), seed),
            *cells((i, j), f"{prompt or 'the empty prompt'}, seed {seed}"),
        ]
        for i, prompt in enumerate(comparison.prompts)
        for j, seed in enumerate(comparison.seeds)
    ]
    return markup.table(["", *comparison.columns], rows, "Pictures of each model", "esd-table")


class DrawnPairs(NamedTuple):
    """What a comparison drew, kept for the slider."""

    drawn: dict[str, Tensor]  # side -> bytes `(prompts, seeds, 3, H, W)`, a quarter of the floats
    made: Parameters

    @classmethod
    def of(cls, comparison: Comparison, made: Parameters) -> DrawnPairs:
        """All pairs of a comparison."""
        return cls({side: (comparison.columns[side] * 255).round().byte() for side in SIDES}, made)

    @property
    def labels(self) -> list[str]:
        """One per pair: a prompt with each of its seeds, then the next."""
        made = self.made
        return [f"{p or 'the empty prompt'}, seed {seed}" for p in made.prompts for seed in made.seeds]

    def shown(self, n: int) -> tuple[tuple[Image, ...], str]:
        """One pair as two pictures that tell how they were made, and its caption."""
        place = i, j = divmod(n, len(self.made.seeds))
        two = tuple(
            stamp(to_pil(self.drawn[side][place] / 255), replace(self.made, column=side, place=place))
            for side in SIDES
        )
        about = f"{markup.quoted(self.made.prompts[i])}, seed {self.made.seeds[j]}"
        return two, f'<p class="esd-caption" data-about="{about}">{about}: base left, erased right</p>'


def reveal(pairs: DrawnPairs | None, chosen: str | None) -> tuple[Any, ...]:
    """Bring out list, slider, caption and download after a drawing, which put its first pair there: the
    pair that was chosen stays if it was drawn again."""
    if pairs is None:
        return (gr.skip(),) * 4
    labels = pairs.labels
    n = labels.index(chosen) if chosen in labels else 0
    listed = gr.Dropdown(labels, value=labels[n], visible=len(labels) > 1)
    two, caption = pairs.shown(n)
    return listed, gr.ImageSlider(two, visible=True), caption, gr.DownloadButton(visible=True)


def pick(pairs: DrawnPairs | None, chosen: str) -> tuple[tuple[Image, ...], str]:
    """Another pair; nothing changes if the pictures are kept no longer."""
    if pairs is None or chosen not in pairs.labels:
        return gr.skip(), gr.skip()
    return pairs.shown(pairs.labels.index(chosen))


def slider() -> tuple[gr.Dropdown, gr.ImageSlider, gr.HTML, gr.State]:
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
    caption = blocks.html(label="caption", elem_id="compare-caption")
    pairs = gr.State(None, time_to_live=memory.LIFETIME)
    chosen.input(pick, [pairs, chosen], [slider, caption], **blocks.AT_ONCE, **blocks.LATEST)
    return chosen, slider, caption, pairs
