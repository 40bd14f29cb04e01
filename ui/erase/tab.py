"""The Erase tab: choose a concept, watch it go, take the erasure away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr

from esd_core import DiffusionModel, Erasure
from esd_core.study.watched_prompts import to_watch
from ui.erase import curves, estimate, fields, picker, pictures
from ui.erase import run as live
from ui.erase.pictures import strip
from ui.erase.run_record import Paused, RunMoment
from ui.server import memory, processor, stream, waiting, zerogpu
from ui.server.stream import Job, halt
from ui.shared import blocks, erasure_list, erasure_text, markup, prompts
from ui.shared.blocks import AT_ONCE, LATEST, Parts, html
from ui.shared.erasure_list import Erasures

IDLE = markup.note("Press Erase. The same seeds appear below, before and after.")
PRESENCE = """<h2>Is it still in its pictures?</h2><p class="esd-caption">CLIP's resemblance of each
picture in the film to what its prompt names; of the empty prompt's, to the erased concept. 0 is no
more than to anything else.</p>"""
KEYS = """<p class="esd-keys"><kbd>Ctrl</kbd> <kbd>Enter</kbd> erases, <kbd>Esc</kbd> stops</p>
<p class="esd-keys">Continue goes on with the settings that the run began with; to one that is done
it adds as many updates as Iterations says.</p>"""
CONCEPT_INFO = "Pick one, or type words the model knows; commas separate several"
BUTTONS = ("go", "end", "more", "clear", "download")  # as `busy` and `idle` give them


def erase(model: DiffusionModel, job: Job | None = None, **values: Any) -> Iterator[RunMoment]:
    """Erase concepts from the model, streaming every part of the page: one moment per step.

    This session's compare, scores, attention and probe then use the erasure; its file is the last
    moment's download. Ending the job keeps what was learned so far.
    """
    job = job or Job()
    with stream.refusals():
        config = fields.read(model, **values)
        moments = live.run(model, config, to_watch(model, config.concepts, live.MOST_WATCHED))
        yield from stream.thinned(job.until_stop(moments))


def go_on(
    model: DiffusionModel, paused: Paused | None, iterations: int, job: Job | None = None
) -> Iterator[RunMoment]:
    """Finish this session's stopped run; if it was finished, add `iterations` more updates."""
    job = job or Job()
    with stream.refusals():
        if paused is None:
            raise ValueError("there is no run to continue; press Erase first")
        made, config = paused.checkpoint.iteration, paused.checkpoint.config
        if made >= config.iterations:
            replace(config, iterations=iterations)  # refuses what is no number of updates
            config = replace(config, iterations=made + iterations)
        job.erasure = paused.checkpoint.erasure
        yield from stream.thinned(job.until_stop(live.go_on(model, paused, config.iterations)))


def busy(**_: Any) -> tuple[Any, ...]:
    """The buttons Erase, Stop, Continue, Reset and Download while a run goes on, and its job."""
    off, on = gr.Button(interactive=False), gr.Button(interactive=True)
    return off, on, off, off, gr.DownloadButton(value=None, interactive=False), Job()


def idle(erasure: Erasure | None, paused: Paused | None) -> tuple[gr.Button | gr.DownloadButton, ...]:
    """The same buttons when nothing runs."""
    on, off = gr.Button(interactive=True), gr.Button(interactive=False)
    more, clear = (gr.Button(interactive=kept is not None) for kept in (paused, erasure))
    return on, off, more, clear, gr.DownloadButton(interactive=erasure is not None)


def ended(
    model: DiffusionModel, job: Job, erasure: Erasure | None, paused: Paused | None, failed: bool = False
) -> tuple[Any, ...]:
    """Wait for the next run; of one that was stopped or refused, say first what it leaves."""
    shown, (left, job.erasure) = RunMoment(), (job.erasure, None)
    if left and (job.stopped or failed):
        shown = live.finished(left, model)
    elif job.stopped or failed:
        former = paused.checkpoint.erasure if paused else erasure
        waited = "it began; the run before it is as it was" if paused else "anything was learned"
        said = markup.note(f"{'Failed' if failed else 'Stopped'} before {waited}.")
        shown = RunMoment(said, download=erasure_text.download(former) if former else stream.SKIP)
    return shown.status, shown.download, *idle(erasure, paused)


def reset() -> tuple[Any, ...]:
    """Forget the run; the erasures in the Library's list stay."""
    errors = gr.LinePlot(curves.curve([], "error"), caption="")
    plots = curves.presence_curve([]), curves.curve([], "loss"), errors
    return *RunMoment(IDLE, "", "", *plots, erasure=None, paused=None), *idle(None, None)


def build(model: DiffusionModel, mine: Erasures) -> Parts:
    """Lay out the tab: the choices on the left, what happens on the right; returns the choices.

    A run replaces the erasure in use; its end puts it on the visitor's list.
    """
    with blocks.columns():
        with blocks.panel():
            chosen = dict(concept=prompts.field(model, "Concept to erase", CONCEPT_INFO, elem_id="concept"))
            if model.vocabulary:
                picker.build(model, chosen["concept"])
            page = buttons()
            html(KEYS)
            price = html(elem_id="erase-cost")
            chosen |= fields.main(model)
            with gr.Accordion("Advanced", open=False):
                chosen |= fields.advanced(model, chosen["iterations"])
        with blocks.result(elem_id="erase-result"):
            page |= results(model, first_look(model, chosen))
    page |= dict(erasure=mine.in_use, seed=chosen["seed"], job=gr.State(Job()))
    wire_runs(model, chosen, page, mine)
    wire_fields(model, chosen, price)
    return chosen


def buttons() -> Parts:
    """Erase, Stop, Continue, Reset."""
    with gr.Row():
        go = gr.Button("Erase", variant="primary", elem_id="erase-run", min_width=110)
        end = gr.Button("Stop", interactive=False, elem_id="erase-stop", min_width=110)
    with gr.Row():
        more = gr.Button("Continue", interactive=False, elem_id="erase-continue", min_width=110)
        clear = gr.Button("Reset", interactive=False, elem_id="erase-reset", min_width=110)
    return dict(go=go, end=end, more=more, clear=clear)


def first_look(model: DiffusionModel, chosen: Parts) -> str:
    """What the page opens with: what its first click will erase, drawn before anything changes.

    If the model tells what it knows, that click finds its examples collected, too. Another model
    may need minutes for them, and draws when it is asked to; so does one whose GPU is lent by call.
    """
    if not model.vocabulary or zerogpu.on():
        first = prompts.phrase(model, prompts.first_choice(model))
        return strip(to_watch(model, first), pictures.SEEDS)
    config = fields.read(model, **{name: field.value for name, field in chosen.items()})
    watched = to_watch(model, config.concepts, live.MOST_WATCHED)
    return strip(watched, pictures.SEEDS, live.prepare(model, config, watched))


def results(model: DiffusionModel, first: str) -> Parts:
    """Where a run shows itself, by the names of a moment's parts."""
    page: Parts = dict(status=html(IDLE, label="status"))
    page["strip"] = html(first, label="before and after")
    page["film"] = html(label="film")
    with gr.Column(visible=bool(model.clip_path and model.vocabulary), elem_classes="esd-plots"):
        html(PRESENCE + curves.LEGEND)  # as Gradio's own is cut off on a narrow screen
        how = dict(color="prompt", color_map=curves.COLOURS, height=220, elem_id="erase-presence")
        page["presence"] = curves.plot(curves.presence_curve([]), "Presence", **how, colors_in_legend=[])
    with gr.Row(elem_classes="esd-plots"):
        labels = {"loss": "Loss of each update", "error": "Held-out error, relative to before"}
        for name, label in labels.items():
            with gr.Column(min_width=260):
                html(f"<h2>{label}</h2>")  # with a heading of its own, Gradio clips the axis
                page[name] = curves.plot(curves.curve([], name), label, height=200)
    page["download"] = gr.DownloadButton(
        "Download the erasure", interactive=False, size="md", elem_classes="esd-download"
    )
    page["paused"] = gr.State(None, time_to_live=memory.LIFETIME)
    return page


def wire_runs(model: DiffusionModel, chosen: Parts, page: Parts, mine: Erasures) -> None:
    """Connect Erase, Stop, Continue and Reset. The API has two of these events: `erase` and `continue`."""
    outputs, buttons = [page[name] for name in RunMoment._fields], [page[name] for name in BUTTONS]
    job, running = page["job"], dict(outputs=outputs, **blocks.long(waiting.RUN, page["status"]))
    # Three links of a chain, because a refused validator would not reach the last one.
    erasing = (
        page["go"]
        .click(
            busy,
            inputs_kwargs=chosen,
            outputs=[*buttons, job],
            concurrency_limit=None,
            validator=processor.in_turns(partial(fields.check, model)),
            **blocks.QUIET,
        )
        .success(
            partial(erase, model),
            inputs_kwargs={"job": job, **chosen},
            **running,
            **blocks.public("erase", erase),
        )
    )
    begun = page["more"].click(busy, None, [*buttons, job], **AT_ONCE)
    paused = [page["paused"], chosen["iterations"], job]
    continuing = begun.success(partial(go_on, model), paused, **running, **blocks.public("continue", go_on))
    page["end"].click(halt, job, page["end"], **AT_ONCE)
    page["clear"].click(reset, None, [*outputs, *buttons], **AT_ONCE)
    # When a run is over: say what it leaves, give the buttons back, put its erasure on the list.
    inputs, told = [job, mine.in_use, page["paused"]], [page["status"], page["download"], *buttons]
    keep = partial(erasure_list.keep, besides=mine.ready)
    # The page of gradio 6.31 comes to `then` after no error, whatever its docs say.
    for run in (erasing, continuing):
        for over, failed in ((run.then, False), (run.failure, True)):
            end = over(partial(ended, model, failed=failed), inputs, told, **AT_ONCE)
            end.then(keep, [mine.owned, mine.in_use], mine.owned, **AT_ONCE)


def wire_fields(model: DiffusionModel, chosen: Parts, price: gr.HTML) -> None:
    """A preset and a method fill in other fields; every change asks for the cost anew."""
    lists = [chosen["preset"], chosen["train_method"]]
    before = gr.State([field.value for field in lists])
    gr.on([field.focus for field in lists], lambda *now: now, lists, before, **AT_ONCE)
    filled = [chosen[name] for name in (*fields.FILLED, "train_method")]
    gr.on([field.input for field in lists], fields.fill, [*lists, before], filled, **AT_ONCE, **LATEST)
    if zerogpu.on():  # where a timing would cost the visitor's minutes of a GPU
        return
    # Without triggers: when the page opens, and when a field changes. It checks as Erase does,
    # because an event takes back what an earlier one said beside the fields it reads.
    gr.on(
        None,
        partial(estimate.cost, model),
        inputs_kwargs=chosen,
        outputs=price,
        concurrency_id=waiting.LOOK,
        validator=processor.in_turns(partial(fields.check, model)),
        **blocks.QUIET,
        **LATEST,
    )
