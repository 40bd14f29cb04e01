"""What the tabs have in common: where things stand on the page, how events behave, what the API shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import getdoc
from typing import Any

import gradio as gr

from ui.server import waiting

Parts = dict[str, Any]  # components by name

# `gr.HTML` in the type of this page.
html = partial(gr.HTML, apply_default_css=False)
# A tab's two columns: choices in a panel on the left, what comes of them on the right.
columns = partial(gr.Row, elem_classes="esd-columns")
panel = partial(gr.Column, scale=3, min_width=300, elem_classes="esd-panel")
result = partial(gr.Column, scale=8, min_width=300)  # style sheets and tests know it by its elem_id

# Of what the page does by itself: the API does not have it, and nothing tells that it goes on.
QUIET: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
# The same at once, in no queue; beware: of an error outside of the queue Gradio says nothing.
AT_ONCE: dict[str, Any] = dict(queue=False, **QUIET)
# Of fields that change while their last change is still at work: the last one counts.
LATEST: dict[str, Any] = dict(trigger_mode="always_last")
# Of what refuses something and computes nothing: in the queue, but not one after the other.
REFUSING: dict[str, Any] = dict(concurrency_limit=None, show_progress="hidden", **LATEST)
# Of a look at one noisy latent: short work, so that nobody waits for another's training.
LOOKING: dict[str, Any] = dict(concurrency_id=waiting.LOOK, concurrency_limit=1)


def long(queue: str, status: gr.HTML) -> dict[str, Any]:
    """Of what computes for long, in that queue; Gradio shows its progress on the status alone."""
    return dict(concurrency_id=queue, concurrency_limit=1, show_progress="minimal", show_progress_on=status)


def public(name: str, fn: Callable[..., Any]) -> dict[str, Any]:
    """Of what the API has under that name, with the function's docstring as its description."""
    return dict(api_name=name, api_description=getdoc(fn))


def slider(
    label: str, ends: tuple[float, float], value: float, step: float, info: str | None = None, **options: Any
) -> gr.Slider:
    """A slider whose ends suit the hand, without a button that resets it.

    What a restored picture or the API asks for may lie beyond them: `esd_core` checks the range.
    """
    options = {"buttons": [], **options}
    made = gr.Slider(*ends, value, step=step, label=label, info=info, **options)
    made.preprocess = lambda sent: sent  # type: ignore[method-assign]  # gradio refuses what lies beyond
    return made
