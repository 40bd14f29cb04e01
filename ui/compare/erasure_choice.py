"""Which erasure Compare draws with: a ready-made one until the visitor has another."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
from gradio.events import Dependency

from esd_core import Erasure
from ui.server import stream
from ui.shared import blocks, erasure_list
from ui.shared.erasure_list import ErasureList, Erasures


def offer(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> tuple[Any, ...]:
    """On opening the tab: the list, and the first ready-made erasure for those who have none.

    What does not change is skipped: a run of the same visitor may be changing it right now.
    """
    first = ready[0].erasure if erasure is None and ready else None
    in_use = first or erasure
    kept = erasure_list.keep(owned, in_use, besides=ready)
    chosen = gr.Dropdown(**erasure_list.offered([*ready, *kept], in_use), visible=bool(ready or kept))
    return stream.SKIP if kept is owned else kept, first or stream.SKIP, chosen


def name(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> gr.Dropdown:
    """The list, which names the erasure in use or, if that is a run's of just now, none."""
    return gr.Dropdown(**erasure_list.offered([*ready, *owned], erasure))


def build(ready: ErasureList) -> gr.Dropdown:
    """Lay out the list above the tab's own fields."""
    return gr.Dropdown(
        **erasure_list.offered(ready, None),
        label="Erasure in use",
        elem_id="in-use",
        info="Ready-made ones, and yours",
        filterable=False,
        visible=bool(ready),
    )


def wire(
    mine: Erasures, chosen: gr.Dropdown, tab: gr.Tab, go: gr.Button, dial: gr.Slider
) -> list[Dependency]:
    """Connect the events; returns those after which another erasure may be in use. The API has one of them:
    `use_erasure`.

    A run of the same visitor may end while the tab is open, so the list is brought up to date with
    every drawing, too; with those of the dial only by name, because each that put a stage of a run
    on the list would push something off it.
    """
    both, ready = [mine.owned, mine.in_use], mine.ready
    offered = gr.on([tab.select, go.click], partial(offer, ready), both, [*both, chosen], **blocks.AT_ONCE)
    dial.input(partial(name, ready), both, chosen, **blocks.AT_ONCE)
    used = chosen.input(
        partial(erasure_list.choose, ready),
        [mine.owned, chosen],
        mine.in_use,
        **blocks.public("use_erasure", erasure_list.choose),
        **blocks.REFUSING,
    )
    return [offered, used]
