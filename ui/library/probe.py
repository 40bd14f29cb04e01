"""Is the concept still drawn? CLIP's answer for the erasure in use, with controls, when asked.

Unlike the presence curves of a run this draws several pictures of each of several prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from html import escape
from inspect import getdoc
from typing import Any, NamedTuple

import gradio as gr

from esd_core import DiffusionModel, Erasure, Probe, card
from esd_core.study.clip_probe import Score, probing
from esd_core.study.watched_prompts import mentioned
from ui.erase import presence
from ui.server import stream, waiting
from ui.shared import erasure_text, pictures

MOST = 8  # pictures a prompt, so that one visitor cannot keep the others waiting
GROUPS = 4  # of prompts that `probing` scores
BASE, ERASED = "base", "erased"


class Shown(NamedTuple):
    """One moment of a measurement on the page; SKIP leaves a part as it is."""

    status: Any = stream.SKIP
    table: Any = stream.SKIP
    numbers: Any = stream.SKIP


def measure(
    model: DiffusionModel, erasure: Erasure | None, concept: str, pictures_each: int
) -> Iterator[Shown]:
    """Draw a concept, neighbours, unrelated ones and the empty prompt; CLIP scores before, after.

    concept is the name or phrase of one that the model knows; empty, what the erasure in use
    erases. The last moment's numbers have for `base` and `erased` a row per group: presence is how
    much more its pictures resemble the concept than the average of its kind, accuracy the share
    that are named as what was asked for.
    """
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; erase or choose something")
        if pictures_each not in range(1, MOST + 1):
            raise ValueError(f"pictures_each is {pictures_each!r}; use a whole number from 1 to {MOST}")
        judge = Probe.of(model)
        phrase = asked(model, judge, erasure, concept)
        found: dict[str, list[Score]] = {BASE: [], ERASED: []}
        unets = {BASE: model.unet, ERASED: erasure.apply(model)}
        steps = {
            state: probing(model, phrase, unet=unet, judge=judge, seeds=range(pictures_each))
            for state, unet in unets.items()
        }
        yield from stream.thinned(scoring(phrase, steps, found))
    said = (
        f"{pictures.quoted(phrase)}, {pictures_each} pictures a prompt, before and after erasing "
        f"{erasure_text.quoted(erasure)}{erasure_text.by_updates(erasure)}."
    )
    rows = {state: [asdict(score) for score in own] for state, own in found.items()}
    numbers = {"concept": phrase, **rows}
    yield Shown(pictures.note(said, tone="good"), table(found[BASE], found[ERASED]), numbers)


def scoring(
    phrase: str, steps: dict[str, Iterator[Score | int]], found: dict[str, list[Score]]
) -> Iterator[Shown]:
    """Put what each state's steps find there, with a status after every step."""
    for state, own in steps.items():
        text = f"Drawing {pictures.quoted(phrase)} and its controls: {state}"
        for at in own:
            if isinstance(at, Score):
                found[state].append(at)
            done = sum(map(len, found.values())) / (2 * GROUPS)
            yield Shown(pictures.note(text, done=done))


def asked(model: DiffusionModel, judge: Probe, erasure: Erasure, concept: str) -> str:
    """The phrase to probe.

    Raises:
        ValueError: it is none of the model's concepts, or the erasure does not say what it erases.
    """
    if concept.strip():
        return judge.concept(concept).phrase
    named = [mentioned(judge.vocabulary, text) for text in card.concepts(erasure)]
    found = next((c for c in named if c), None)
    if found is None:
        raise ValueError("this erasure names no concept of the model's list; type one to look for")
    return found.phrase


def table(before: list[Score], after: list[Score]) -> str:
    """A row per group."""
    rows = ""
    for was, now in zip(before, after, strict=True):
        names = ", ".join(prompt for prompt in was.prompts if prompt)
        accuracy = ["–" if score.accuracy is None else f"{score.accuracy:.0%}" for score in (was, now)]
        seen = [f"{score.presence:+.3f}".replace("-", "−") for score in (was, now)]
        cells = "".join(f"<td>{text}</td>" for text in (*seen, *accuracy))
        rows += f'<tr><th scope="row">{escape(was.group)}<small>{escape(names)}</small></th>{cells}</tr>'
    heads = ("presence before", "after", "named right before", "after")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    return (
        f'<div class="esd-prose"><table class="esd-numbers esd-probe"><thead><tr><td></td>{head}'
        f"</tr></thead><tbody>{rows}</tbody></table><p>Presence: how much more the pictures "
        "resemble the concept than the average of its kind; 0 is no more than anything else. Named "
        "right: the share whose nearest concept is the one asked for. CLIP was trained beside the "
        "model it judges.</p></div>"
    )


def build(model: DiffusionModel, erasure: gr.State) -> None:
    """Lay out the question and, below it, the answer. The API has one event: `probe`."""
    with gr.Column(visible=presence.possible(model)):
        gr.HTML("<h2>Is it still drawn?</h2>", apply_default_css=False, elem_classes="esd-prose")
        with gr.Row(elem_classes="esd-probing"):
            concept = gr.Textbox(
                label="Concept to look for",
                max_length=100,
                min_width=180,
                placeholder="Empty: what it erases",
            )
            each = gr.Slider(1, MOST, 2, step=1, label="Pictures a prompt", buttons=[], min_width=180)
        go = gr.Button("Measure", elem_id="probe-go", elem_classes="esd-download", size="md")
        status, found = (gr.HTML(label=label, apply_default_css=False) for label in ("status", "table"))
        numbers = gr.JSON(visible=False, label="numbers")
    go.click(
        partial(measure, model),
        inputs_kwargs=dict(erasure=erasure, concept=concept, pictures_each=each),
        outputs=list(Shown(status, found, numbers)),
        concurrency_id=waiting.MODEL,
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=status,
        api_name="probe",
        api_description=getdoc(measure),
    )
