"""The Erase tab: choose a concept, watch it go, take the erasure away."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from inspect import getdoc
from typing import Any

import gradio as gr

from esd_core import PRESETS, DiffusionModel, EraseConfig, Erasure, preset
from esd_core.config import MEMORY_ONLY, OPTIONS
from esd_core.study.watched_prompts import to_watch
from ui.erase import estimate, fields, picker, presence, preview
from ui.erase import run as live
from ui.erase.moment import RunMoment, busy, idle
from ui.erase.run import Paused
from ui.server import processor, session, stream, waiting, zerogpu
from ui.server.stop import Job, halt
from ui.shared import erasure_list, erasure_text, pictures, prompts
from ui.shared.erasure_list import ErasureList

# What a preset fills in; its other options stay behind the scenes.
OF_PRESET = (
    "iterations",
    "learning_rate",
    "batch_size",
    "start_guidance",
    "num_inference_steps",
    "x_t_source",
    "preserve",
)
# How refusals begin that are about a field without beginning with its name.
ABOUT = {
    "train_method": ("unknown train method",),
    "preset": ("unknown preset",),
    "preserve": ("x_t_source 'images' and preserve",),
}
MOST_WATCHED = 3  # concepts in the film
IDLE = pictures.note("Press Erase. The same seeds appear below, before and after.")
PRESENCE = """<h2>Is it still in its pictures?</h2><p class="esd-caption">CLIP's resemblance of each
picture in the film to what its prompt names; of the empty prompt's, to the erased concept. 0 is no
more than to anything else.</p>"""
KEYS = """<p class="esd-keys"><kbd>Ctrl</kbd> <kbd>Enter</kbd> erases, <kbd>Esc</kbd> stops</p>
<p class="esd-keys">Continue goes on with the settings that the run began with; to one that is done
it adds as many updates as Iterations says.</p>"""


def settings(model: DiffusionModel, **values: Any) -> EraseConfig:  # noqa: ANN401
    """The run that the fields describe.

    Raises:
        ValueError: a field holds what `esd_core` refuses.
    """
    values = dict(values)
    erase_from = values.pop("erase_from")
    concepts = prompts.targets(model, values.pop("concept"), erase_from)
    name = values.pop("preset")
    if values.pop("randomise"):
        values["seed"] = secrets.randbelow(int(OPTIONS["seed"].bounds[1]) + 1)
    config = preset(name, concepts, **values)
    # The text encoder refuses what it cannot read.
    model.encode([t.concept for t in concepts])
    with prompts.of_context(erase_from):
        model.encode([t.erase_from or "" for t in concepts])
    return config


def erase(
    model: DiffusionModel,
    job: Job | None = None,
    **values: Any,  # noqa: ANN401
) -> Iterator[RunMoment]:
    """Erase concepts from the model, streaming every part of the page: one moment per step.

    This session's compare, scores, attention and probe then use the erasure; its file is the last
    moment's download. Ending the job keeps what was learned so far.
    """

    def moments() -> Iterator[RunMoment]:
        with stream.refusals():
            config = settings(model, **values)
            yield from live.run(model, config, to_watch(model, config.concepts, MOST_WATCHED))

    yield from stream.thinned((job or Job()).until_stop(moments()))


def go_on(
    model: DiffusionModel, paused: Paused | None, iterations: int, job: Job | None = None
) -> Iterator[RunMoment]:
    """Finish this session's stopped run; if it was finished, add `iterations` more updates."""
    job = job or Job()

    def moments() -> Iterator[RunMoment]:
        with stream.refusals():
            if paused is None:
                raise ValueError("there is no run to continue; press Erase first")
            made, config = paused.checkpoint.iteration, paused.checkpoint.config
            if made >= config.iterations:
                replace(config, iterations=iterations)  # refuses what is no number of updates
                config = replace(config, iterations=made + iterations)
            job.erasure = paused.checkpoint.erasure
            yield from live.go_on(model, paused, config.iterations)

    yield from stream.thinned(job.until_stop(moments()))


def reset() -> tuple[Any, ...]:
    """Forget the run; the erasures on the shelf stay."""
    errors = gr.LinePlot(live.curve([], "error"), caption="")
    shown = RunMoment(IDLE, "", "", presence.frame([]), live.curve([], "loss"), errors, None, paused=None)
    return *shown, *idle(None, None)


def check(model: DiffusionModel, **values: Any) -> list[dict[str, Any]]:  # noqa: ANN401
    """Before anything runs: which field is wrong, and why, said beside it."""
    wrong, message = "", ""
    try:
        settings(model, **values)
    except ValueError as refused:
        message = str(refused)
        wrong = next((n for n in values if message.startswith((f"{n} is ", *ABOUT.get(n, ())))), "concept")
    return [gr.validate(name != wrong, message) for name in values]


def cost(model: DiffusionModel, **values: Any) -> str:  # noqa: ANN401
    """What the run that the fields describe would take; raises what `check` reports."""
    config = settings(model, **values)
    drawn = [item.prompt for item in presence.with_empty(to_watch(model, config.concepts, MOST_WATCHED))]
    made = estimate.estimate(
        model,
        config,
        len(drawn),
        len(preview.SEEDS),
        preview.STEPS,
        again=preview.known(model, drawn) is not None,
    )
    if live.EXAMPLES.find(model, config):
        made = replace(made, collecting=0)
    return estimate.sentence(made, config)


def ended(
    model: DiffusionModel, job: Job, erasure: Erasure | None, paused: Paused | None, failed: bool = False
) -> tuple[Any, ...]:
    """Wait for the next run; of one that was stopped or refused, say first what it leaves."""
    shown, (left, job.erasure) = RunMoment(), (job.erasure, None)
    if (job.stopped or failed) and left is None:
        former = paused.checkpoint.erasure if paused else erasure
        waited = "it began; the run before it is as it was" if paused else "anything was learned"
        said = pictures.note(f"{'Failed' if failed else 'Stopped'} before {waited}.")
        shown = RunMoment(said, download=erasure_text.download(former) if former else stream.SKIP)
    elif job.stopped or failed:
        shown = live.finished(left, model)
    return shown.status, shown.download, *idle(erasure, paused)


def fill(name: str, method: str = "esd-x") -> list[Any]:
    """A preset's values for a method, for the fields that show them."""
    config = preset(name, "anything", train_method=method)
    return [getattr(config, option) for option in OF_PRESET]


def recall(config: EraseConfig) -> dict[str, Any]:
    """The fields that describe a run, but for how little memory it took; `settings` inverts it.

    Raises:
        ValueError: the run has options that no field shows.
    """
    config = replace(config, **{name: getattr(EraseConfig, name) for name in MEMORY_ONLY})
    shown: dict[str, Any] = {name: getattr(config, name) for name in OF_PRESET}
    shown |= dict(train_method=config.train_method, eta=config.eta, seed=config.seed)
    contexts = [t.erase_from or "" for t in config.concepts]
    texts = dict(concept=erasure_text.of_run(config), erase_from=", ".join(contexts) if any(contexts) else "")
    same = all(t.weight == 1 and "," not in t.concept for t in config.concepts)
    for name in PRESETS:
        if same and preset(name, config.concepts, **shown) == config:
            return {**shown, **texts, "preset": name, "randomise": False}
    raise ValueError("its run has options that this page does not show; repeat it with Python")


def build(model: DiffusionModel, erasure: gr.State, owned: gr.State, ready: ErasureList) -> dict[str, Any]:
    """Lay out the tab: the choices on the left, what happens on the right; returns the choices.

    Args:
        erasure: the visitor's, which a run replaces.
        owned: the visitor's shelf, where a run that ended puts it.
        ready: everybody's.
    """
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            chosen = fields.concept(model)
            if model.vocabulary:
                picker.build(model, chosen["concept"])
            with gr.Row():
                go = gr.Button("Erase", variant="primary", elem_id="erase-run", min_width=110)
                end = gr.Button("Stop", interactive=False, elem_id="erase-stop", min_width=110)
            with gr.Row():
                more = gr.Button("Continue", interactive=False, elem_id="erase-continue", min_width=110)
                clear = gr.Button("Reset", interactive=False, elem_id="erase-reset", min_width=110)
            gr.HTML(KEYS, apply_default_css=False)
            price = gr.HTML(elem_id="erase-cost", apply_default_css=False)
            chosen |= fields.main(model)
            with gr.Accordion("Advanced", open=False):
                chosen |= fields.advanced(model)
        with gr.Column(scale=8, min_width=300, elem_id="erase-result"):
            shown = results(model, erasure, chosen["seed"], first_look(model, chosen))
    wire(model, chosen, (go, end, more, clear), shown, (owned, ready))
    if not zerogpu.on():  # where a timing would cost the visitor's minutes of a GPU
        # Without triggers: when the page opens, and when a field changes. It checks as `go` does,
        # because an event takes back what an earlier one said beside the fields it reads.
        gr.on(
            None,
            partial(cost, model),
            inputs_kwargs=chosen,
            outputs=price,
            show_progress="hidden",
            trigger_mode="always_last",
            concurrency_id=waiting.LOOK,
            api_visibility="private",
            validator=processor.in_turns(partial(check, model)),
        )
    return chosen


def first_look(model: DiffusionModel, chosen: dict[str, Any]) -> str:
    """What the page opens with: what its first click will erase, drawn before anything changes.

    If the model tells what it knows, that click finds its examples collected, too. Another model
    may need minutes for them, and draws when it is asked to; so does one whose GPU is lent by call.
    """
    if not model.vocabulary or zerogpu.on():
        first = prompts.phrase(model, prompts.first_choice(model) or "Van Gogh")
        return pictures.strip(to_watch(model, first), preview.SEEDS)
    config = settings(model, **{name: field.value for name, field in chosen.items()})
    watched = to_watch(model, config.concepts, MOST_WATCHED)
    return pictures.strip(watched, preview.SEEDS, live.prepare(model, config, watched))


def results(model: DiffusionModel, erasure: gr.State, seed: gr.Number, first: str) -> RunMoment:
    """Where a run shows itself."""
    status = gr.HTML(IDLE, label="status", apply_default_css=False)
    strip = gr.HTML(first, label="before and after", apply_default_css=False)
    film = gr.HTML(label="film", apply_default_css=False)
    present = presence_plot(presence.possible(model))
    with gr.Row(elem_classes="esd-plots"):
        loss = plot("loss", "Loss of each update")
        error = plot("error", "Error on held-out examples, relative to before")
    download = gr.DownloadButton(
        "Download the erasure", interactive=False, size="md", elem_classes="esd-download"
    )
    return RunMoment(
        status,
        strip,
        film,
        present,
        loss,
        error,
        erasure,
        download,
        seed,
        gr.State(None, time_to_live=session.LIFETIME),
    )


def presence_plot(visible: bool) -> gr.LinePlot:
    """Curves of what each watched prompt's pictures still show."""
    with gr.Column(visible=visible, elem_classes="esd-plots"):
        gr.HTML(PRESENCE, apply_default_css=False)
        x, y, colour = presence.COLUMNS
        return gr.LinePlot(
            presence.frame([]),
            x=x,
            y=y,
            color=colour,
            color_map=presence.COLOURS,
            x_title="update",
            y_title=" ",
            height=220,
            label="Presence",
            show_label=False,
            buttons=[],
            elem_id="erase-presence",
        )


def plot(name: str, label: str) -> gr.LinePlot:
    """A curve over the updates. Its heading is ours: with one of its own, gradio clips the axis."""
    with gr.Column(min_width=260):
        gr.HTML(f"<h2>{label}</h2>", apply_default_css=False)
        return gr.LinePlot(
            live.curve([], name),
            x="update",
            y=name,
            x_title="update",
            y_title=" ",
            height=200,
            label=label,
            show_label=False,
            buttons=[],
        )


def wire(
    model: DiffusionModel,
    chosen: dict[str, Any],
    pressed: tuple[gr.Button, ...],
    shown: RunMoment,
    shelves: tuple[gr.State, ErasureList],
) -> None:
    """Connect the events. The API has two of them: `erase` and `continue`."""
    (go, end, more, clear), (owned, ready) = pressed, shelves
    buttons, kept = [*pressed, shown.download], [shown.erasure, shown.paused]
    job = gr.State(Job())
    quiet: dict[str, Any] = dict(queue=False, show_progress="hidden", api_visibility="private")
    on_model: dict[str, Any] = dict(
        outputs=list(shown),
        concurrency_id=waiting.RUN,
        concurrency_limit=1,
        show_progress_on=shown.status,
        show_progress="minimal",
    )
    # Three links of a chain, because a refused validator would not reach the last one.
    begun = go.click(
        busy,
        inputs_kwargs=chosen,
        outputs=[*buttons, job],
        concurrency_limit=None,
        validator=processor.in_turns(partial(check, model)),
        show_progress="hidden",
        api_visibility="private",
    )
    running = begun.success(
        partial(erase, model),
        inputs_kwargs={"job": job, **chosen},
        api_name="erase",
        api_description=getdoc(erase),
        **on_model,
    )
    going_on = more.click(busy, None, [*buttons, job], **quiet).success(
        partial(go_on, model),
        [shown.paused, chosen["iterations"], job],
        api_name="continue",
        api_description=getdoc(go_on),
        **on_model,
    )
    end.click(halt, job, end, **quiet)
    on_page = [shown.status, shown.download, *buttons]
    for run in (running, going_on):
        # The page of gradio 6.31 comes to `then` after no error, whatever its docs say.
        for over, failed in ((run.then, False), (run.failure, True)):
            over(partial(ended, model, failed=failed), [job, *kept], on_page, **quiet).then(
                partial(erasure_list.keep, besides=ready), [owned, shown.erasure], owned, **quiet
            )
    clear.click(reset, None, [*shown, *buttons], **quiet)
    plan = [chosen["preset"], chosen["train_method"]]
    quiet |= dict(trigger_mode="always_last")
    chosen["preset"].input(fill, plan, [chosen[n] for n in OF_PRESET], **quiet)
    chosen["train_method"].input(fields.rate, plan, chosen["learning_rate"], **quiet)
