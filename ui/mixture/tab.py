"""The Mixture tab: erasing a class of points in the plane, where every score is known exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import gradio as gr

from esd_core.plane.network import MixtureNet, erase_class, fit
from ui.mixture import class_text, panels, question
from ui.mixture.panels import Networks, Setup
from ui.mixture.question import ANSWERS, QUESTION, Ends
from ui.server import memory, stream, waiting
from ui.shared import blocks, markup

INTRO = """<div class="esd-intro"><p>The same erasing on data simple enough that nothing has to be
learned: each class is a round heap of points, so the score of every class, of all data, and the
erasing target have formulas. Arrows point where a prediction would move a noisy point: minus the
predicted noise, which up to a factor that depends only on <i>t</i> is the score. Two dimensions
exaggerate: in pictures, which have thousands, guidance overshoots less.</p></div>"""
FIT, ERASE = 600, 120  # updates of a network's two trainings
REFRESH = 0.3  # seconds between two pictures of a training
KEPT = 16  # networks
LEARNED: dict[str, MixtureNet] = {}  # by the classes' text: what one learns depends on nothing else
FIRST, OWN = next(iter(class_text.PRESETS)), "Your own"
# Where in the data a picture of the plane was clicked.
CLICK = """element.addEventListener("click", (event) => {
  const plane = event.target.closest("svg[data-extent]");
  if (!plane) return;
  const box = plane.getBoundingClientRect(), extent = Number(plane.dataset.extent);
  const x = (2 * (event.clientX - box.left)) / box.width - 1;
  const y = 1 - (2 * (event.clientY - box.top)) / box.height;
  trigger("click", { x: x * extent, y: y * extent });
});"""


class MixtureView(NamedTuple):
    """What the tab shows, as HTML, and the numbers for programs."""

    status: str
    arrows: str
    samples: str
    numbers: dict[str, Any]


class TrainingMoment(NamedTuple):
    """One moment of training on the page; SKIP leaves a part as it is."""

    status: str
    arrows: str = stream.SKIP
    networks: Networks = stream.SKIP


def draw(prediction: str | None, networks: Networks | None, **looked_at: Any) -> MixtureView:
    """Exact scores of a Gaussian mixture; where sampling a class leads before and after erasing.

    classes has a line per class: name, x, y, spread, weight. The samples after erasing are withheld until
    prediction is one of stays, all, others, past. The last value returned has the numbers: share nearest the
    class, median distance from the middle of the data, share farther than 3 spreads from every class.
    """
    with stream.refusals():
        seen = panels.setup(**looked_at)
        if prediction not in (None, *ANSWERS):
            raise ValueError(f"prediction is {prediction!r}; use stays, all, others or past")
    if networks and networks.seen[:2] != seen[:2]:
        networks = None  # of other classes
    html, numbers = panels.samples(seen, prediction is not None, networks)
    if prediction is None:
        status = markup.note(f"Answer the question on the left, and the samples of {seen.name} appear.")
    else:
        ends, push = Ends(**numbers["erased"]), seen.eta * seen.guidance_scale
        right, said = question.feedback(seen.classes, seen.concept, prediction, ends, push)
        status = markup.note(said, tone="good" if right else "plain")
    return MixtureView(status, panels.arrows(seen, networks), html, numbers)


def train(**looked_at: Any) -> Iterator[TrainingMoment]:
    """Teach a network the classes and erase one from it: a moment for every update.

    The page is drawn when it has ended, as its fields are by then.
    """
    with stream.refusals():
        seen = panels.setup(**looked_at)
    drawn_at = 0.0
    for networks, said, done in learning(seen):
        moment = TrainingMoment(markup.note(said, done=done))
        if time.perf_counter() - drawn_at >= REFRESH:
            moment = moment._replace(arrows=panels.arrows(seen, networks))
            drawn_at = time.perf_counter()
        yield moment
    networks.edited.requires_grad_(False).eval()
    yield TrainingMoment(markup.note("Done", done=1), networks=networks)


def learning(seen: Setup) -> Iterator[tuple[Networks, str, float]]:
    """The networks so far, what is going on, and how much of it is done (0 to 1), at every update."""
    net, whole = LEARNED.get(seen.text), FIT + ERASE
    if net is None:
        for update, (net, loss) in enumerate(fit(seen.classes.mixture, updates=FIT), 1):
            said = f"Learning the classes: update {update} of {FIT}, loss {loss:.3f}"
            yield Networks(seen, net), said, update / whole
        LEARNED[seen.text] = net.requires_grad_(False).eval()
        for oldest in [*LEARNED][:-KEPT]:
            del LEARNED[oldest]
    for update, (edited, loss) in enumerate(erase_class(net, seen.concept, seen.eta, updates=ERASE), 1):
        said = f"Erasing: update {update} of {ERASE}, loss {loss:.3f}"
        yield Networks(seen, net, edited), said, (FIT + update) / whole


def place(classes: str, event: gr.EventData) -> str:
    """One class more, where the plane was clicked."""
    with stream.refusals():
        return class_text.more(classes, event.x, event.y)


def follow(classes: str, concept: str, asked: tuple[str, str]) -> tuple[Any, ...]:
    """After the classes or the choice among them changed: the names, and the question anew.

    A list that only loses the focus tells of a choice, too: the question that was asked then stays.
    """
    if (classes, concept) == asked:
        return (stream.SKIP,) * 4
    with stream.refusals():
        names = class_text.read(classes).names
    concept = concept if concept in names else names[0]
    known = next((name for name, text in class_text.PRESETS.items() if text == classes), OWN)
    radio = gr.Radio(question.choices(concept), value=None, label=QUESTION.format(name=concept))
    return gr.Dropdown(names, value=concept), known, radio, (classes, concept)


def build(tab: gr.Tab) -> None:
    """Lay out the tab: the classes, the question and the sliders on the left, what comes of them on
    the right."""
    with blocks.columns():
        with blocks.panel():
            preset = gr.Dropdown([*class_text.PRESETS, OWN], value=FIRST, label="Data", filterable=False)
            fields = choices()
            go = gr.Button("Erase in a network", variant="primary", elem_id="mixture-run")
        with blocks.result(elem_id="mixture-result"):
            blocks.html(INTRO)
            status = blocks.html(label="status")
            arrows = blocks.html(label="arrows", js_on_load=CLICK)
            parts = [status, arrows, blocks.html(label="samples"), gr.JSON(visible=False, label="Numbers")]
    wire(fields, preset, go, tab, parts)


def choices() -> dict[str, Any]:
    """What to look at, by the names that the API gives the fields."""
    names = list(class_text.read(class_text.PRESETS[FIRST]).names)
    concept = gr.Dropdown(names, value=names[0], label="Class to erase", filterable=False)
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
        question.choices(names[0]), label=QUESTION.format(name=names[0]), elem_id="mixture-predict"
    )
    both = "Of the target, and of the network when it is trained"
    eta = blocks.slider("Erasing strength η", (-2, 5), 1, 0.1, both)
    plain = "While sampling; 1 is the plain prediction"
    guidance = blocks.slider("Guidance scale w", (0, 10), 1, 0.5, plain)
    t = blocks.slider("Timestep t", (0, 999), 400, 1, "Of the arrows; 999 is noise, 0 clean")
    looked_at = dict(classes=classes, concept=concept, t=t, eta=eta, guidance_scale=guidance)
    return looked_at | dict(prediction=prediction, networks=gr.State(None, time_to_live=memory.LIFETIME))


def wire(fields: dict[str, Any], preset: gr.Dropdown, go: gr.Button, tab: gr.Tab, parts: list[Any]) -> None:
    """Connect the events. The API has one of them: `mixture`."""
    look: dict[str, Any] = dict(fn=draw, inputs_kwargs=fields, outputs=parts, show_progress="hidden")
    look |= blocks.LATEST | blocks.LOOKING
    private: dict[str, Any] = dict(api_visibility="private")
    moved = [fields[name].input for name in ("t", "eta", "guidance_scale", "prediction")]
    gr.on(moved, **look, **blocks.public("mixture", draw))
    (status, arrows, *_), classes, concept = parts, fields["classes"], fields["concept"]
    asked = gr.State((classes.value, concept.value))
    asking: dict[str, Any] = dict(fn=follow, inputs=[classes, concept, asked])
    asking |= {"outputs": [concept, preset, fields["prediction"], asked], **blocks.REFUSING}
    latest = blocks.AT_ONCE | blocks.LATEST
    picked = preset.input(lambda name: class_text.PRESETS.get(name, stream.SKIP), preset, classes, **latest)
    for changed in (picked, arrows.click(place, classes, classes, **blocks.REFUSING, **private)):
        changed.success(**asking, **private).success(**look, **private)
    gr.on([classes.blur, classes.submit, concept.input], **asking, **private).success(**look, **private)
    go.click(
        train,
        inputs_kwargs={name: fields[name] for name in ("classes", "concept", "t", "eta", "guidance_scale")},
        outputs=[status, arrows, fields["networks"]],
        **private,
        **blocks.long(waiting.MODEL, status),
    ).success(**look, **private)
    tab.select(**look, **private)
