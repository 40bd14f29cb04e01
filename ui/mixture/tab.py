"""The Mixture tab: erasing a class of points in the plane, where every score is known exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from inspect import getdoc
from typing import Any, NamedTuple

import gradio as gr

from ui.mixture import class_text, forecast
from ui.mixture import panels as mixture_panels
from ui.mixture.forecast import Ends
from ui.mixture.panels import Scene, scene
from ui.mixture.training import REFRESH, Lesson, learn
from ui.server import session, stream, waiting
from ui.shared import events, pictures

INTRO = """<div class="esd-intro"><p>The same erasing on data simple enough that nothing has to be
learned: each class is a round heap of points, so the score of every class, of all data, and the
erasing target have formulas. Arrows point where a prediction would move a noisy point: minus the
predicted noise, which up to a factor that depends only on <i>t</i> is the score. Two dimensions
exaggerate: in pictures, which have thousands, guidance overshoots less.</p></div>"""
QUESTION = "Predict first: {name} is erased, then asked for. Where do the samples land?"
FIRST = next(iter(class_text.PRESETS))
# Where in the data a picture of the plane was clicked.
CLICK = """element.addEventListener("click", (event) => {
  const plane = event.target.closest("svg[data-extent]");
  if (!plane) return;
  const box = plane.getBoundingClientRect(), extent = Number(plane.dataset.extent);
  const x = (2 * (event.clientX - box.left)) / box.width - 1;
  const y = 1 - (2 * (event.clientY - box.top)) / box.height;
  trigger("click", { x: x * extent, y: y * extent });
});"""
OWN = "Your own"


class Shown(NamedTuple):
    """What the tab puts on the page, and the numbers for programs."""

    status: Any
    fields: Any
    samples: Any
    numbers: Any


def draw(
    classes: str,
    concept: str,
    t: float,
    eta: float,
    guidance_scale: float,
    prediction: str | None,
    lesson: Lesson | None,
) -> Shown:
    """Exact scores of a Gaussian mixture; where sampling a class leads before and after erasing.

    classes has a line per class: name, x, y, spread, weight. The samples after erasing are withheld
    until prediction is one of stays, all, others, past. The last value returned has the numbers:
    share nearest the class, median distance from the middle of the data, share farther than 3
    spreads from every class.
    """
    with stream.refusals():
        seen = scene(classes, concept, t, eta, guidance_scale)
        if prediction not in (None, *dict(map(reversed, forecast.choices("")))):
            raise ValueError(f"prediction is {prediction!r}; use stays, all, others or past")
    return shown(seen, prediction, lesson)


def shown(seen: Scene, prediction: str | None, learned: Lesson | None) -> Shown:
    """Everything on the page."""
    if learned and (learned.text, learned.concept) != (seen.text, seen.concept):
        learned = None  # of other classes
    html, numbers = mixture_panels.samples(seen, prediction, learned)
    if prediction is None:
        text = f"Answer the question on the left, and the samples of {seen.name} appear."
        status = pictures.note(text)
    else:
        ends = Ends(**numbers["erased"])
        push = seen.eta * seen.guidance_scale
        right, said = forecast.feedback(seen.world, seen.concept, prediction, ends, push)
        status = pictures.note(said, tone="good" if right else "plain")
    return Shown(status, mixture_panels.fields(seen, learned), html, numbers)


def train(
    classes: str,
    concept: str,
    t: float,
    eta: float,
    guidance_scale: float,
    prediction: str | None,
    lesson: Lesson | None,
) -> Iterator[tuple[Any, ...]]:
    """Teach a network the classes and erase one from it: status, arrows, and the lesson so far.

    The page is drawn when it has ended, as its fields are by then.
    """
    with stream.refusals():
        seen = scene(classes, concept, t, eta, guidance_scale)
    drawn_at = 0.0
    for learned, said, done in learn(seen.text, seen.concept, seen.eta):
        status = pictures.note(said, done=done)
        if done == 1:
            yield status, *[stream.SKIP] * 3, learned
        elif time.perf_counter() - drawn_at < REFRESH:
            yield status, *[stream.SKIP] * 4
        else:
            arrows = mixture_panels.fields(seen, learned)
            drawn_at = time.perf_counter()
            yield status, arrows, *[stream.SKIP] * 3


def pick(name: str) -> Any:  # noqa: ANN401
    """The classes of a ready-made world, to edit."""
    return class_text.PRESETS.get(name, stream.SKIP)


def place(classes: str, event: gr.EventData) -> str:
    """One class more, where the plane was clicked."""
    with stream.refusals():
        return class_text.more(classes, event.x, event.y)


def follow(classes: str, concept: str) -> tuple[Any, Any, Any]:
    """After the classes or the choice among them changed: the names, and the question anew."""
    with stream.refusals():
        names = class_text.read(classes).names
    concept = concept if concept in names else names[0]
    label = QUESTION.format(name=concept)
    known = next((n for n, text in class_text.PRESETS.items() if text == classes), OWN)
    return (
        gr.Dropdown(names, value=concept),
        known,
        gr.Radio(forecast.choices(concept), value=None, label=label),
    )


def build(tab: gr.Tab) -> None:
    """Lay out the tab: the classes, the question and the sliders on the left, what comes of them on
    the right."""
    names = class_text.read(class_text.PRESETS[FIRST]).names
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            preset = gr.Dropdown([*class_text.PRESETS, OWN], value=FIRST, label="Data", filterable=False)
            concept = gr.Dropdown(list(names), value=names[0], label="Class to erase", filterable=False)
            with gr.Accordion("The classes", open=False):
                classes = gr.Textbox(
                    class_text.PRESETS[FIRST],
                    label="One per line",
                    lines=4,
                    max_lines=8,
                    max_length=500,
                    info=class_text.HEAD,
                    elem_classes="esd-code",
                )
            prediction = gr.Radio(
                forecast.choices(names[0]), label=QUESTION.format(name=names[0]), elem_id="mixture-predict"
            )
            eta = gr.Slider(
                -2,
                5,
                1,
                step=0.1,
                label="Erasing strength η",
                buttons=[],
                info="Of the target, and of the network when it is trained",
            )
            guidance = gr.Slider(
                0,
                10,
                1,
                step=0.5,
                label="Guidance scale w",
                buttons=[],
                info="While sampling; 1 is the plain prediction",
            )
            t = gr.Slider(
                0,
                999,
                400,
                step=1,
                label="Timestep t",
                buttons=[],
                info="Of the arrows; 999 is noise, 0 clean",
            )
            go = gr.Button("Erase in a network", variant="primary", elem_id="mixture-run")
        with gr.Column(scale=8, min_width=300, elem_id="mixture-result"):
            gr.HTML(INTRO, apply_default_css=False)
            parts = [
                gr.HTML(label="status", apply_default_css=False),
                gr.HTML(label="arrows", apply_default_css=False, js_on_load=CLICK),
                gr.HTML(label="samples", apply_default_css=False),
            ]
            numbers = gr.JSON(visible=False, label="Numbers")
    lesson = gr.State(None, time_to_live=session.LIFETIME)
    fields = dict(
        classes=classes,
        concept=concept,
        t=t,
        eta=eta,
        guidance_scale=guidance,
        prediction=prediction,
        lesson=lesson,
    )
    wire(fields, preset, go, tab, Shown(*parts, numbers))


def wire(fields: dict[str, Any], preset: gr.Dropdown, go: gr.Button, tab: gr.Tab, parts: Shown) -> None:
    """Connect the events. The API has one of them: `mixture`."""
    look: dict[str, Any] = dict(
        fn=draw,
        inputs_kwargs=fields,
        outputs=list(parts),
        show_progress="hidden",
        trigger_mode="always_last",
        **events.LOOKING,
    )
    private: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    refusing: dict[str, Any] = dict(api_visibility="private", trigger_mode="always_last", **events.REFUSING)
    sliders = [fields[name] for name in ("t", "eta", "guidance_scale", "prediction")]
    gr.on([s.input for s in sliders], **look, api_name="mixture", api_description=getdoc(draw))
    classes, concept = fields["classes"], fields["concept"]
    asking = dict(
        fn=follow, inputs=[classes, concept], outputs=[concept, preset, fields["prediction"]], **refusing
    )
    for changed in (
        preset.input(pick, preset, classes, queue=False, trigger_mode="always_last", **private),
        parts.fields.click(place, classes, classes, **refusing),
    ):
        changed.success(**asking).success(**look, api_visibility="private")
    gr.on([classes.blur, classes.submit, concept.input], **asking).success(**look, api_visibility="private")
    go.click(
        train,
        inputs_kwargs=fields,
        outputs=[*parts, fields["lesson"]],
        concurrency_id=waiting.MODEL,
        concurrency_limit=1,
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=parts.status,
    ).success(**look, api_visibility="private")
    tab.select(**look, api_visibility="private")
