"""Is the concept still drawn? CLIP's answer for the erasure in use, with controls, when asked.

Unlike the presence curves of a run this draws several pictures of each of several prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, NamedTuple

import gradio as gr
from markupsafe import Markup

from esd_core import DiffusionModel, Erasure, Probe, card
from esd_core.study.clip_probe import Score, probing
from esd_core.study.watched_prompts import mentioned
from ui.server import stream, waiting
from ui.shared import blocks, erasure_text, markup
from ui.shared.markup import table

MOST_PICTURES = 8  # a prompt, so that one visitor cannot keep the others waiting
GROUPS = 4  # of prompts that `probing` scores
BASE, ERASED = "base", "erased"
HEADS = ("", "presence before", "after", "named right before", "after")
LEGEND = """<p>Presence: how much more the pictures resemble the concept than the average of its kind; 0
is no more than anything else. Named right: the share whose nearest concept is the one asked for. CLIP
was trained beside the model it judges.</p>"""


class ProbeMoment(NamedTuple):
    """One moment of a measurement on the page; SKIP leaves a part as it is."""

    status: str = stream.SKIP
    table: str = stream.SKIP
    numbers: dict[str, Any] = stream.SKIP


def measure(
    model: DiffusionModel, erasure: Erasure | None, concept: str, pictures_each: int
) -> Iterator[ProbeMoment]:
    """Draw a concept, neighbours, unrelated ones and the empty prompt; CLIP scores before, after.

    concept is the name or phrase of one that the model knows; empty, what the erasure in use
    erases. The last moment's numbers have for `base` and `erased` a row per group: presence is how
    much more its pictures resemble the concept than the average of its kind, accuracy the share
    that are named as what was asked for.
    """
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; erase or choose something")
        if pictures_each not in range(1, MOST_PICTURES + 1):
            raise ValueError(
                f"pictures_each is {pictures_each!r}; use a whole number from 1 to {MOST_PICTURES}"
            )
        judge = Probe.of(model)
        phrase = phrase_of(judge, erasure, concept)
        found: dict[str, list[Score]] = {BASE: [], ERASED: []}

        def scoring() -> Iterator[ProbeMoment]:
            for state, unet in ((BASE, model.unet), (ERASED, erasure.apply(model))):
                text = f"Drawing {markup.quoted(phrase)} and its controls: {state}"
                for at in probing(model, phrase, unet=unet, seeds=range(pictures_each)):
                    if isinstance(at, Score):
                        found[state].append(at)
                    done = sum(map(len, found.values())) / (2 * GROUPS)
                    yield ProbeMoment(markup.note(text, done=done))

        yield from stream.thinned(scoring())
    said = (
        f"{markup.quoted(phrase)}, {pictures_each} pictures a prompt, before and after erasing "
        f"{erasure_text.named(erasure)}."
    )
    numbers = {"concept": phrase, **{state: list(map(asdict, own)) for state, own in found.items()}}
    yield ProbeMoment(markup.note(said, tone="good"), compared(*found.values()), numbers)


def phrase_of(judge: Probe, erasure: Erasure, concept: str) -> str:
    """The phrase to probe."""
    if concept.strip():
        return judge.concept(concept).phrase
    for text in card.concepts(erasure):
        if found := mentioned(judge.vocabulary, text):
            return found.phrase
    raise ValueError("this erasure names no concept of the model's list; type one to look for")


def compared(before: list[Score], after: list[Score]) -> str:
    """A row per group."""
    rows = []
    for both in zip(before, after, strict=True):
        group, names = both[0].group, ", ".join(prompt for prompt in both[0].prompts if prompt)
        seen = (f"{score.presence:+.3f}".replace("-", "−") for score in both)
        right = ("–" if score.accuracy is None else f"{score.accuracy:.0%}" for score in both)
        rows.append([Markup("{}<small>{}</small>").format(group, names), *seen, *right])
    numbers = table(HEADS, rows, "CLIP's scores before and after", "esd-numbers esd-probe")
    return f'<div class="esd-prose">{numbers}{LEGEND}</div>'


def build(model: DiffusionModel, erasure: gr.State) -> None:
    """Lay out the question and, below it, the answer. The API has one event: `probe`."""
    with gr.Column(visible=model.clip_path is not None and model.vocabulary is not None):
        blocks.html("<h2>Is it still drawn?</h2>", elem_classes="esd-prose")
        with gr.Row(elem_classes="esd-probing"):
            concept = gr.Textbox(
                label="Concept to look for",
                max_length=100,
                min_width=180,
                placeholder="Empty: what it erases",
            )
            each = blocks.slider("Pictures a prompt", (1, MOST_PICTURES), 2, 1, min_width=180)
        go = gr.Button("Measure", elem_id="probe-go", elem_classes="esd-download", size="md")
        status, answer = blocks.html(label="status"), blocks.html(label="table")
        numbers = gr.JSON(visible=False, label="numbers")
    go.click(
        partial(measure, model),
        inputs_kwargs=dict(erasure=erasure, concept=concept, pictures_each=each),
        outputs=[status, answer, numbers],
        **blocks.public("probe", measure),
        **blocks.long(waiting.MODEL, status),
    )
