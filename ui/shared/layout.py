"""How every tab is laid out: choices in a panel on the left, what comes of them on the right."""

from __future__ import annotations

from typing import Any

import gradio as gr


def columns() -> gr.Row:
    """A tab's two columns."""
    return gr.Row(elem_classes="esd-columns")


def panel() -> gr.Column:
    """The left one."""
    return gr.Column(scale=3, min_width=300, elem_classes="esd-panel")


def result(name: str) -> gr.Column:
    """The right one, which style sheets and tests know by its id."""
    return gr.Column(scale=8, min_width=300, elem_id=name)


def slider(
    label: str,
    ends: tuple[float, float],
    value: float,
    step: float,
    info: str | None = None,
    **options: Any,  # noqa: ANN401
) -> gr.Slider:
    """A slider whose ends suit the hand, without a button that resets it.

    What a restored picture or the API asks for may lie beyond them: `esd_core` checks the range.
    """
    options = {"buttons": [], **options}
    made = gr.Slider(*ends, value, step=step, label=label, info=info, **options)
    made.preprocess = lambda sent: sent  # type: ignore[method-assign]  # gradio refuses what lies beyond
    return made
