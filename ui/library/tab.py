"""The Library tab: a visitor's erasures and the ready-made ones, to inspect, add and take away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr

from esd_core import DiffusionModel, Erasure, card
from esd_core.formats import largest, load_erasure
from esd_core.study import png_parameters
from ui.compare import tab as compare_tab
from ui.erase import settings
from ui.library import probe as probing
from ui.server import stream
from ui.shared import erasure_list, erasure_text, events, pictures
from ui.shared.erasure_list import ErasureList, ListedErasure

EMPTY = pictures.note("Nothing here yet: erase something, or open a file.")
NOT_REPEATABLE = "Its file does not record how it was made."


class Shown(NamedTuple):
    """The tab's view of the shelf and of the erasure in use."""

    status: Any
    chosen: Any
    second: Any
    table: Any
    file: Any
    markdown: Any
    json: Any
    command: Any
    python: Any


def show(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> Shown:
    """The list, and all about the erasure in use."""
    listed = [*ready, *owned]
    options, key = erasure_list.choices(listed), erasure_list.key_of(listed, erasure)
    other = next((own for _, own in options if own != key), key)
    lists = gr.Radio(options, value=key), gr.Dropdown(options, value=other)
    if key is None:
        off = gr.DownloadButton(value=None, interactive=False)
        said = pictures.note("Choose an erasure; Compare then draws with it.") if listed else EMPTY
        return Shown(said, *lists, "", off, off, off, "", "")
    kept = erasure_list.find(listed, key)
    files = [gr.DownloadButton(value=path, interactive=True) for path in kept.files()]
    known = card.facts(kept.erasure)
    text = f"In use: {pictures.quoted(erasure_text.concepts(kept.erasure))}. Compare draws with it."
    return Shown(
        pictures.note(text, tone="good"),
        *lists,
        table(kept),
        *files,
        known["command_line"] or NOT_REPEATABLE,
        known["python"] or NOT_REPEATABLE,
    )


def table(kept: ListedErasure) -> str:
    """Its record as HTML."""
    listed = [("Comes from", kept.origin), *card.rows(kept.erasure)]
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{escape(text)}</td></tr>' for label, text in listed
    )
    return f'<table class="esd-card"><tbody>{rows}</tbody></table>'


def refresh(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> tuple[Any, ...]:
    """On opening the tab: an erasure that is not on the shelf yet is put there."""
    owned = erasure_list.keep(owned, erasure, besides=ready)
    return owned, *show(ready, owned, erasure)


def choose(ready: ErasureList, owned: ErasureList, key: str) -> Erasure:
    """Make a listed erasure the one in use."""
    with stream.refusals():
        return erasure_list.find([*ready, *owned], key).erasure


def open_file(
    model: DiffusionModel, owned: ErasureList, path: str | None
) -> tuple[ErasureList, Erasure, None]:
    """Put an erasure's .safetensors file on the shelf and use it."""
    with stream.refusals():
        if path is None:
            raise ValueError("choose a .safetensors file of an erasure")
        erasure = load_erasure(path, model, largest(model))
    return erasure_list.keep(owned, erasure, "a file"), erasure, None


def add(
    model: DiffusionModel,
    ready: ErasureList,
    owned: ErasureList,
    erasure: Erasure | None,
    strength: float,
    second: str,
    second_strength: float,
) -> tuple[ErasureList, Erasure]:
    """Add the erasure in use and another one up, each at its strength, and use the sum."""
    with stream.refusals():
        if erasure is None:
            raise ValueError("choose the first erasure in the list, then add another to it")
        other = erasure_list.find([*ready, *owned], second).erasure
        both = Erasure.combine(model, [erasure, other], [strength, second_strength])
    return erasure_list.keep(owned, both, "a sum"), both


def restore(
    model: DiffusionModel,
    ready: ErasureList,
    names: tuple[Sequence[str], Sequence[str]],
    owned: ErasureList,
    path: str | None,
) -> tuple[Any, ...]:
    """Put the settings of a PNG that this app made back into Erase and Compare.

    Args:
        names: of the fields of Erase and of Compare, in the order of the outputs.

    Returns:
        what to say, the erasure in use, and a value for each field.
    """
    with stream.refusals():
        if path is None:
            raise ValueError("choose a PNG that this app made")
        made = png_parameters.read(path)
        for_compare, for_erase = compare_tab.recall(made), {}
        said = ["Its settings are in Compare"]
        if made.config:
            for_erase = settings.recall(made.config)
            said = ["Its settings are in Erase and in Compare"]
    if made.axes:
        said.append("its knobs are there under Grid over two knobs")
    found = [kept.erasure for kept in (*ready, *owned) if kept.erasure.hash == made.erasure]
    if found:
        said.append("the erasure it was drawn with is in use")
    elif made.config:
        said.append("press Erase to make its erasure again, then Compare")
    if made.base != model.fingerprint:
        said.append(
            f"it was drawn by another model ({made.base}), so expect other pictures; a learning "
            "rate that fits one model may ruin another"
        )
    status = pictures.note(f"{escape('; '.join(said))}.", tone="good")
    return (
        status,
        found[0] if found else stream.SKIP,
        *(for_erase.get(name, stream.SKIP) for name in names[0]),
        *(for_compare.get(name, stream.SKIP) for name in names[1]),
    )


class Controls(NamedTuple):
    """What can be done with the list."""

    chosen: gr.Radio
    opened: gr.File
    picture: gr.File
    restored: gr.HTML  # what the picture gave back
    strength: gr.Slider
    second: gr.Dropdown
    other: gr.Slider
    plus: gr.Button


def build(
    model: DiffusionModel,
    erasure: gr.State,
    owned: gr.State,
    ready: ErasureList,
    tab: gr.Tab,
    for_erase: dict[str, Any],
    for_compare: dict[str, Any],
) -> None:
    """Lay out the tab: the list and what can be done with it on the left, the record on the right.

    Args:
        erasure: the one in use.
        owned: the visitor's shelf.
        ready: everybody's.
        tab: the tab itself, whose opening brings the list up to date.
        for_erase: the fields of Erase, by name.
        for_compare: those of Compare.
    """
    with gr.Row(elem_classes="esd-columns"):
        with gr.Column(scale=3, min_width=300, elem_classes="esd-panel"):
            controls = panel(erasure_list.choices(ready))
        with gr.Column(scale=8, min_width=300, elem_id="library-result"):
            shown = results(controls)
            probing.build(model, erasure)
    quiet: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    tab.select(partial(refresh, ready), [owned, erasure], [owned, *shown], queue=False, **quiet)
    for event in wire(model, erasure, owned, ready, controls):
        event.success(
            partial(show, ready),
            [owned, erasure],
            list(shown),
            queue=False,
            trigger_mode="always_last",
            **quiet,
        )
    names = (tuple(for_erase), tuple(for_compare))
    controls.picture.upload(
        partial(restore, model, ready, names),
        [owned, controls.picture],
        [controls.restored, erasure, *for_erase.values(), *for_compare.values()],
        api_visibility="private",
        **events.REFUSING,
    ).success(partial(show, ready), [owned, erasure], list(shown), queue=False, **quiet)


def panel(listed: list[Any]) -> Controls:
    """The list, and folded below it: a file, a picture, a sum."""
    chosen = gr.Radio(
        listed,
        label="Erasure in use",
        elem_id="library-list",
        info="The latest you made is in use; the others stay until you leave",
    )
    with gr.Accordion("Open a file", open=False):
        opened = gr.File(
            label="An erasure (.safetensors), ours or the authors'",
            height=150,
            file_types=[".safetensors"],
            elem_id="library-open",
        )
    with gr.Accordion("Restore settings from a picture", open=False):
        picture = gr.File(
            label="A PNG saved from this app", height=150, file_types=[".png"], elem_id="library-restore"
        )
        restored = gr.HTML(apply_default_css=False)
    with gr.Accordion("Add another to it", open=False):
        strength = gr.Slider(-1, 2, 1, step=0.1, label="Strength of the one in use")
        second = gr.Dropdown(listed, label="The other", filterable=False)
        other = gr.Slider(-1, 2, 1, step=0.1, label="Strength of the other")
        plus = gr.Button("Add", elem_id="library-add")
    return Controls(chosen, opened, picture, restored, strength, second, other, plus)


def results(controls: Controls) -> Shown:
    """Where the record of the erasure in use appears, and how to take it along."""
    status = gr.HTML(EMPTY, apply_default_css=False)
    record = gr.HTML(apply_default_css=False)
    with gr.Row(elem_classes="esd-downloads"):
        files = [
            gr.DownloadButton(what, interactive=False, size="md", min_width=150)
            for what in ("Download the erasure", "Card as Markdown", "Card as JSON")
        ]
    command, python = (
        gr.Textbox(label=label, lines=lines, interactive=False, elem_classes="esd-code", buttons=["copy"])
        for label, lines in (("As a command line", 2), ("As a Python program", 9))
    )
    return Shown(status, controls.chosen, controls.second, record, *files, command, python)


def wire(
    model: DiffusionModel, erasure: gr.State, owned: gr.State, ready: ErasureList, controls: Controls
) -> list[Any]:
    """Connect the events that change what is in use. The API has one: `open_erasure`."""
    quiet: dict[str, Any] = dict(show_progress="hidden", api_visibility="private")
    choosing = controls.chosen.input(
        partial(choose, ready),
        [owned, controls.chosen],
        erasure,
        trigger_mode="always_last",
        api_visibility="private",
        **events.REFUSING,
    )
    opening = controls.opened.upload(
        partial(open_file, model),
        [owned, controls.opened],
        [owned, erasure, controls.opened],
        api_name="open_erasure",
        show_progress="hidden",
    )
    adding = controls.plus.click(
        partial(add, model, ready),
        [owned, erasure, controls.strength, controls.second, controls.other],
        [owned, erasure],
        **quiet,
        **events.LOOKING,
    )
    return [choosing, opening, adding]
