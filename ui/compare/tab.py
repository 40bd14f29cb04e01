"""The Compare tab: the visitor's own prompts, before and after, from the same noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple

import gradio as gr
from PIL.Image import Image

from esd_core import DiffusionModel, Erasure
from esd_core.exchange import png_parameters
from esd_core.exchange.png_parameters import Parameters
from esd_core.sampling import SCHEDULERS
from esd_core.study.comparison import At, comparing
from esd_core.study.figures import comparison_sheet
from ui.compare import badges, erasure_choice, grid, knobs, pictures
from ui.compare.pictures import DrawnPairs
from ui.server import memory, stream, waiting
from ui.shared import blocks, erasure_text, markup
from ui.shared.blocks import Parts
from ui.shared.erasure_list import Erasures

MOST_PICTURES = 16  # a column, so that one visitor cannot keep the others waiting
COLUMNS = ("base", "erased", "negative prompt")
KEYS = '<p class="esd-keys"><kbd>Ctrl</kbd> <kbd>Enter</kbd> compares</p>'
IDLE = markup.note(
    "Here you put an erasure to the test: a ready-made one, one of yours, or one from a file "
    "opened in the Library. Press Compare, and every prompt is drawn three times from one noise: "
    "by the base model, by the erased one, and by the base model with the concept as negative "
    "prompt. Try the concept in other words, its neighbours, and things that have nothing to do "
    "with it."
)


class ComparisonMoment(NamedTuple):
    """One moment of a comparison on the page; SKIP leaves a part as it is."""

    status: str = stream.SKIP
    table: str = stream.SKIP
    slider: tuple[Image, ...] = stream.SKIP
    caption: str = stream.SKIP
    download: str = stream.SKIP
    pairs: DrawnPairs = stream.SKIP


@dataclass
class Latest:
    """A page's comparisons: one that is still being drawn ends when another one begins."""

    begun: int = 0


def drawing(
    model: DiffusionModel, erasure: Erasure | None, latest: Latest | None = None, **fields: Any
) -> Iterator[ComparisonMoment]:
    """Draw prompts from the same noise: base, erased, and base with the concept as negative prompt.

    prompt has one per line, `""` for the empty one; empty, it is the erased concepts, a neighbour
    and something unrelated. seeds are numbers separated by commas. It streams how far it is; the
    last value of the last moment is the labelled sheet, a PNG that carries its settings.
    """
    yield ComparisonMoment()  # a stream without any moment would empty all of the page
    with stream.refusals():
        if erasure is None:
            raise ValueError("nothing is erased in this session yet; run Erase first, then compare")
        asked = parameters(model, erasure, **fields)
        latest = latest or Latest()
        own = latest.begun = latest.begun + 1
        yield from takewhile(lambda _: latest.begun == own, moments(model, erasure, asked))


def parameters(model: DiffusionModel, erasure: Erasure, prompt: str, seeds: str, **drawn: Any) -> Parameters:
    """What the fields ask for; an empty box stands for the erased concepts and two controls."""
    noises = [int(seed) for seed in knobs.values(model, "seed", seeds, [])]
    wanted = knobs.listed_prompts(model, prompt, "\n")
    if not wanted:
        wanted = erasure_text.default_prompts(model, erasure, MOST_PICTURES // len(noises))
    if (count := len(wanted) * len(noises)) > MOST_PICTURES:
        raise ValueError(
            f"{len(wanted)} prompts with {len(noises)} seeds make {count} pictures a column; "
            f"ask for {MOST_PICTURES} or fewer"
        )
    negative, _ = erasure_text.negative_prompt(model, erasure)
    return png_parameters.of(
        model, erasure, tuple(wanted), tuple(noises), negative_prompt=negative or "", **drawn
    )


def moments(model: DiffusionModel, erasure: Erasure, asked: Parameters) -> Iterator[ComparisonMoment]:
    """Draw the columns, and prove that nothing else differs."""
    options = {name: getattr(asked, name) for name in ("guidance_scale", "num_inference_steps", "scheduler")}
    negative, edited = asked.negative_prompt or None, erasure.apply(model, asked.strength)
    columns = COLUMNS if negative else COLUMNS[:2]

    def at_work(at: At) -> ComparisonMoment:
        own = min(at.step / asked.num_inference_steps, 1)  # pndm takes a step more
        done = (columns.index(at.column) + own) / len(columns)
        return ComparisonMoment(markup.note(f"Drawing the column {at.column}: step {at.step}", done=done))

    steps = comparing(model, edited, asked.prompts, asked.seeds, negative_prompt=negative, **options)
    made = yield from stream.between(steps, at_work)
    yield ComparisonMoment(markup.note("Checking that nothing else differs", done=1))
    proof = badges.html(badges.badges(model, erasure, asked.strength, edited, made, **options))
    yield ComparisonMoment(markup.note("Laying out the pictures", done=1))
    path, pairs = memory.new_file("comparison.png"), DrawnPairs.of(made, asked)
    png_parameters.save(png_parameters.stamp(comparison_sheet(made), asked), path)
    text = (
        f"All columns start from the same noise (<code>{made.noise_hash}</code>). Erased: "
        f"{erasure_text.named(erasure)}, at strength "
        f"{asked.strength:g}.{erasure_text.negative_prompt(model, erasure)[1]}"
    )
    status = markup.note(text, tone="good") + proof
    yield ComparisonMoment(status, pictures.table(made, asked), *pairs.shown(0), str(path), pairs)


def recall(made: Parameters) -> dict[str, Any]:
    """The fields with which a comparison, or a grid, was drawn."""
    if strange := [knob for knob, _ in made.axes if knob not in knobs.KNOBS]:
        raise ValueError(f"its grid has a knob that this app does not: {strange[0][:40]!r}")
    axes = zip((("across", "columns"), ("down", "rows")), made.axes, strict=False)
    return dict(
        {name: text for names, axis in axes for name, text in zip(names, axis, strict=True)},
        prompt="\n".join(prompt or knobs.EMPTY_PROMPT for prompt in made.prompts),
        seeds=", ".join(map(str, made.seeds)),
        strength=made.strength,
        guidance_scale=made.guidance_scale,
        scheduler=made.scheduler,
        num_inference_steps=made.num_inference_steps,
    )


def redraw(
    model: DiffusionModel, erasure: Erasure | None, strength: float | None, **rest: Any
) -> Iterator[ComparisonMoment]:
    """Draw again after a change of strength; nothing to do before there is an erasure, or while its
    number is being typed."""
    if erasure is None or strength is None:
        yield ComparisonMoment()
    else:
        yield from drawing(model, erasure, strength=strength, **rest)


def build(model: DiffusionModel, mine: Erasures, tab: gr.Tab) -> Parts:
    """Lay out the tab: what to draw on the left, the pictures on the right; returns the choices."""
    chosen = erasure_choice.build(mine.ready)
    with blocks.columns():
        with blocks.panel():
            choices, go = fields()
            axes, page = grid.controls(model)
        with blocks.result(elem_id="compare-result"):
            parts, pair = results()
            sheet = grid.results()
    used = erasure_choice.wire(mine, chosen, tab, go, choices["strength"])
    wire(model, {"erasure": mine.in_use, **choices}, go, pair, parts)
    one = {"num_inference_steps": "steps", "seeds": "seed"}  # as a grid, which has one of each, calls them
    fixed = {one.get(name, name): field for name, field in choices.items()}
    grid.wire(model, page, {"erasure": mine.in_use, **fixed, **axes}, sheet, used)
    return choices | axes


def fields() -> tuple[Parts, gr.Button]:
    """What to draw, by the names that the API gives them, and the button that draws."""
    prompt = gr.Textbox(
        label="Prompts",
        lines=4,
        max_length=2000,
        info="One per line",
        placeholder="Empty: the erased concept, a neighbour and something unrelated",
    )
    seeds = gr.Textbox("1, 2", label="Seeds", info="Each prompt is drawn once per seed")
    says = "0 is the base model, 1 as trained; below 0 draws the concept more strongly"
    strength = blocks.slider("Strength", (-1, 2), 1, 0.1, says, elem_id="strength")
    go = gr.Button("Compare", variant="primary", elem_id="compare-run")
    blocks.html(KEYS)
    with gr.Accordion("Sampling", open=False):
        guidance = blocks.slider("Guidance scale", (-5, 20), 4, 0.5, buttons=None)
        steps = gr.Slider(1, 100, 20, step=1, label="Steps")
        scheduler = gr.Dropdown(list(SCHEDULERS), value="ddim", label="Scheduler", filterable=False)
    choices = dict(prompt=prompt, seeds=seeds, strength=strength, guidance_scale=guidance)
    return choices | dict(num_inference_steps=steps, scheduler=scheduler), go


def results() -> tuple[Parts, gr.Dropdown]:
    """Where each part of a `ComparisonMoment` appears, and the list of its pairs."""
    status = blocks.html(IDLE, label="status")
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            table = blocks.html(label="table")
        with gr.Column(scale=2, min_width=240):
            pair, slider, caption, pairs = pictures.slider()
            download = gr.DownloadButton("Download as one sheet", visible=False)
    parts = dict(status=status, table=table, slider=slider, caption=caption, download=download, pairs=pairs)
    return parts, pair


def wire(model: DiffusionModel, fields: Parts, go: gr.Button, pair: gr.Dropdown, parts: Parts) -> None:
    """Connect the events. The API has one of them: `compare`."""
    on_model = dict(
        inputs_kwargs={**fields, "latest": gr.State(Latest())},
        outputs=[parts[name] for name in ComparisonMoment._fields],
        **blocks.LATEST,
        **blocks.long(waiting.MODEL, parts["status"]),
    )
    pressed = go.click(partial(drawing, model), **blocks.public("compare", drawing), **on_model)
    # Its `release` knows nothing of arrow keys. What it is moved to while a comparison is drawn is
    # drawn next.
    moved = fields["strength"].input(partial(redraw, model), api_visibility="private", **on_model)
    revealed = [pair, *(parts[name] for name in ("slider", "caption", "download"))]
    for drawn in (pressed, moved):
        drawn.success(pictures.reveal, [parts["pairs"], pair], revealed, **blocks.AT_ONCE)
