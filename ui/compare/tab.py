"""The Compare tab: the visitor's own prompts, before and after, from the same noise."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from inspect import getdoc
from typing import Any, NamedTuple

import gradio as gr

from esd_core import Comparison, DiffusionModel, Erasure
from esd_core.sampling import SCHEDULERS
from esd_core.study import png_parameters
from esd_core.study.comparison import At, comparing
from esd_core.study.figures import comparison_sheet
from ui.compare import badges, grid, grid_panel, picture_slider
from ui.compare.picture_slider import Pairs
from ui.server import session, stream, waiting
from ui.shared import erased_prompts, erasure_text, pictures, prompts

MOST = 16  # pictures a column, so that one visitor cannot keep the others waiting
COLUMNS = ("base", "erased", "negative prompt")
EMPTY_PROMPT = '""'
KEYS = '<p class="esd-keys"><kbd>Ctrl</kbd> <kbd>Enter</kbd> compares</p>'
IDLE = pictures.note(
    "Here you put an erasure to the test: a ready-made one, one of yours, or one from a file "
    "opened in the Library. Press Compare, and every prompt is drawn three times from one noise: "
    "by the base model, by the erased one, and by the base model with the concept as negative "
    "prompt. Try the concept in other words, its neighbours, and things that have nothing to do "
    "with it."
)
NOTHING_YET = "nothing is erased in this session yet; run Erase first, then compare"
# What the grid calls the fields; it has one of each.
GRID_NAMES = {"num_inference_steps": "steps", "seeds": "seed"}


class Shown(NamedTuple):
    """What a comparison puts on the page; SKIP leaves a part as it is."""

    status: Any = stream.SKIP
    table: Any = stream.SKIP
    slider: Any = stream.SKIP
    caption: Any = stream.SKIP
    download: Any = stream.SKIP
    pairs: Any = stream.SKIP


def listed(model: DiffusionModel, text: str, erasure: Erasure, most: int = MOST) -> list[str]:
    """One prompt per line, `""` for the empty one; an empty box stands for the erased concepts and
    two controls, `most` of them.

    Raises:
        ValueError: the model has never seen a word of it, or the box is empty and the erasure does
            not say what it erases.
    """
    lines = [" ".join(line.split()) for line in (text or "").splitlines() if line.strip()]
    if not lines:
        return erased_prompts.defaults(model, erasure, most)
    lines = ["" if line == EMPTY_PROMPT else line for line in lines]
    for line in lines:
        prompts.refuse_unknown_words(model, line)
    return lines


def numbers(text: str) -> list[int]:
    """Seeds from text such as "1, 2, 3".

    Raises:
        ValueError: something in it is not a seed.
    """
    seeds = []
    for part in re.split(r"[\s,;]+", str(text).strip()):
        if not (part.isascii() and part.isdigit() and int(part) < 2**31):
            raise ValueError(
                f"seeds: {part!r} is no seed; use whole numbers from 0 to 2147483647, such as 1, 2"
            )
        seeds.append(int(part))
    return seeds


def draw(model: DiffusionModel, erasure: Erasure | None, **fields: Any) -> Shown:  # noqa: ANN401
    """The end of `drawing`."""
    *_, end = drawing(model, erasure, **fields)
    return end


def drawing(
    model: DiffusionModel,
    erasure: Erasure | None,
    prompt: str,
    seeds: str,
    strength: float,
    guidance_scale: float,
    num_inference_steps: int,
    scheduler: str,
) -> Iterator[Shown]:
    """Draw prompts from the same noise: base, erased, and base with the concept as negative prompt.

    prompt has one per line, `""` for the empty one; empty, it is the erased concepts, a neighbour
    and something unrelated. seeds are numbers separated by commas. It streams how far it is; the
    last value of the last moment is the labelled sheet, a PNG that carries its settings.
    """
    with stream.refusals():
        if erasure is None:
            raise ValueError(NOTHING_YET)
        noises = numbers(seeds)
        wanted = listed(model, prompt, erasure, MOST // len(noises))
        if (count := len(wanted) * len(noises)) > MOST:
            raise ValueError(
                f"{len(wanted)} prompts with {len(noises)} seeds make {count} pictures a column; "
                f"ask for {MOST} or fewer"
            )
        negative, left_out = erased_prompts.negative(model, erasure)
        options: dict[str, Any] = dict(
            guidance_scale=guidance_scale, num_inference_steps=num_inference_steps, scheduler=scheduler
        )
        parameters = png_parameters.of(
            model,
            erasure,
            tuple(wanted),
            tuple(noises),
            strength=strength,
            negative_prompt=negative or "",
            **options,
        )
        edited = erasure.apply(model, strength)
        steps = comparing(model, edited, wanted, noises, negative_prompt=negative, **options)
        columns = COLUMNS if negative else COLUMNS[:2]
        made = yield from stream.between(steps, partial(at_work, columns, num_inference_steps))
        yield Shown(pictures.note("Checking that nothing else differs", done=1))
        proof = badges.html(badges.badges(model, erasure, strength, edited, made, **options))
    text = (
        f"All columns start from the same noise (<code>{made.noise_hash}</code>). Erased: "
        f"{erasure_text.quoted(erasure)}{erasure_text.by_updates(erasure)}, "
        f"at strength {strength:g}.{left_out}"
    )
    yield Shown(pictures.note("Laying out the pictures", done=1))
    yield shown(made, parameters, pictures.note(text, tone="good") + proof)


def at_work(columns: Sequence[str], steps: int, at: At) -> Shown:
    """How far a comparison is whose columns take so many steps each; pndm takes one more."""
    done = (columns.index(at.column) + min(at.step / steps, 1)) / len(columns)
    return Shown(pictures.note(f"Drawing the column {at.column}: step {at.step}", done=done))


def shown(made: Comparison, parameters: png_parameters.Parameters, status: str) -> Shown:
    """A comparison as it stands on the page; the slider takes its first pair."""
    path = session.new_file("comparison.png")
    png_parameters.save(png_parameters.stamp(comparison_sheet(made), parameters), path)
    pairs = picture_slider.of(made, parameters)
    return Shown(status, pictures.table(made, parameters), *picture_slider.shown(pairs, 0), str(path), pairs)


def recall(parameters: png_parameters.Parameters) -> dict[str, Any]:
    """The fields with which a comparison, or a grid, was drawn.

    Raises:
        ValueError: the grid has knobs of another version.
    """
    if strange := [knob for knob, _ in parameters.axes if knob not in grid.KNOBS]:
        raise ValueError(f"its grid has a knob that this app does not: {strange[0][:40]!r}")
    axes = zip((("across", "columns"), ("down", "rows")), parameters.axes, strict=False)
    return dict(
        {name: text for names, axis in axes for name, text in zip(names, axis, strict=True)},
        prompt="\n".join(prompt or EMPTY_PROMPT for prompt in parameters.prompts),
        seeds=", ".join(map(str, parameters.seeds)),
        strength=parameters.strength,
        guidance_scale=parameters.guidance_scale,
        scheduler=parameters.scheduler,
        num_inference_steps=parameters.num_inference_steps,
    )


def redraw(
    model: DiffusionModel, erasure: Erasure | None, strength: float | None, **rest: Any
) -> Iterator[Shown]:
    """Draw again after a change of strength; nothing to do before there is an erasure, or while its
    number is being typed."""
    if erasure is None or strength is None:
        yield Shown()
    else:
        yield from drawing(model, erasure, strength=strength, **rest)


def build(model: DiffusionModel, erasure: gr.State) -> tuple[dict[str, Any], gr.Button]:
    """Lay out the tab: what to draw on the left, the pictures on the right.

    Returns:
        the choices by name, and the button that draws.
    """
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            prompt = gr.Textbox(
                label="Prompts",
                lines=4,
                max_length=2000,
                info="One per line",
                placeholder="Empty: the erased concept, a neighbour and something unrelated",
            )
            seeds = gr.Textbox("1, 2", label="Seeds", info="Each prompt is drawn once per seed")
            strength = gr.Slider(
                -1,
                2,
                1,
                step=0.1,
                label="Strength",
                info="0 is the base model, 1 as trained; below 0 draws the concept more strongly",
                elem_id="strength",
                buttons=[],
            )
            go = gr.Button("Compare", variant="primary", elem_id="compare-run")
            gr.HTML(KEYS, apply_default_css=False)
            with gr.Accordion("Sampling", open=False):
                guidance = gr.Slider(-5, 20, 4, step=0.5, label="Guidance scale")
                steps = gr.Slider(1, 100, 20, step=1, label="Steps")
                scheduler = gr.Dropdown(list(SCHEDULERS), value="ddim", label="Scheduler", filterable=False)
            with gr.Accordion("Grid over two knobs", open=False) as fold:
                knobs, price, pressed = grid_panel.fields()
        with gr.Column(scale=8, min_width=300, elem_id="compare-result"):
            status = gr.HTML(IDLE, label="status", apply_default_css=False)
            with gr.Row():
                with gr.Column(scale=3, min_width=300):
                    table = gr.HTML(label="table", apply_default_css=False)
                with gr.Column(scale=2, min_width=240):
                    chosen, slider, caption, pairs = picture_slider.build()
                    download = gr.DownloadButton("Download as one sheet", visible=False)
            sheet = grid_panel.results()
    fields = dict(
        erasure=erasure,
        prompt=prompt,
        seeds=seeds,
        strength=strength,
        guidance_scale=guidance,
        num_inference_steps=steps,
        scheduler=scheduler,
    )
    wire(model, fields, go, chosen, Shown(status, table, slider, caption, download, pairs))
    fixed = {GRID_NAMES.get(name, name): field for name, field in fields.items()}
    grid_panel.wire(model, {**fixed, **knobs}, price, pressed, fold, sheet)
    choices = {name: field for name, field in fields.items() if field is not erasure}
    return choices | knobs, go


def wire(
    model: DiffusionModel, fields: dict[str, Any], go: gr.Button, chosen: gr.Dropdown, parts: Shown
) -> None:
    """Connect the events. The API has one of them: `compare`."""
    on_model: dict[str, Any] = dict(
        inputs_kwargs=fields,
        outputs=list(parts),
        concurrency_id=waiting.MODEL,
        concurrency_limit=1,
        show_progress="minimal",
        show_progress_on=parts.status,
    )
    pressed = go.click(
        partial(drawing, model),
        trigger_mode="always_last",
        api_name="compare",
        api_description=getdoc(drawing),
        **on_model,
    )
    # Its `release` knows nothing of arrow keys. What it is moved to while a comparison is drawn is
    # drawn next.
    moved = fields["strength"].input(
        partial(redraw, model), trigger_mode="always_last", api_visibility="private", **on_model
    )
    for drawn in (pressed, moved):
        drawn.success(
            reveal,
            [parts.pairs, chosen],
            [chosen, parts.slider, parts.caption, parts.download],
            queue=False,
            show_progress="hidden",
            api_visibility="private",
        )


def reveal(pairs: Pairs | None, chosen: str | None) -> tuple[Any, ...]:
    """Bring out what has no place before something is drawn."""
    if pairs is None:
        return (gr.skip(),) * 4
    return *picture_slider.follow(pairs, chosen), gr.DownloadButton(visible=True)
