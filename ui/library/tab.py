"""The Library tab: a visitor's erasures and the ready-made ones, to inspect, add and take away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from typing import Any, NamedTuple

import gradio as gr
from gradio.events import Dependency

from esd_core import DiffusionModel, Erasure, card
from esd_core.exchange import png_parameters
from esd_core.exchange.formats import largest, load_erasure
from ui.library import probe
from ui.server import stream
from ui.shared import blocks, erasure_list, erasure_text, markup
from ui.shared.erasure_list import ErasureList, Erasures
from ui.shared.markup import table

EMPTY = markup.note("Nothing here yet: erase something, or open a file.")
NOT_REPEATABLE = "Its record, above, names no single run that makes it."


class LibraryView(NamedTuple):
    """The lists, and all about the erasure in use."""

    status: str
    chosen: gr.Radio
    second: gr.Dropdown
    table: str
    file: gr.DownloadButton
    markdown: gr.DownloadButton
    json: gr.DownloadButton
    command: str
    python: str


class RestoredTab(NamedTuple):
    """A tab whose fields a picture's settings fill in."""

    name: str
    fields: dict[str, Any]
    recall: Callable[[png_parameters.Parameters], dict[str, Any]]  # field -> value; {} for none


def show(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> LibraryView:
    """The list, and all about the erasure in use."""
    listed = [*ready, *owned]
    options, key = erasure_list.choices(listed), erasure_list.key_of(listed, erasure)
    other = next((own for _, own in options if own != key), key)
    lists = gr.Radio(options, value=key), gr.Dropdown(options, value=other)
    if key is None:
        off = gr.DownloadButton(value=None, interactive=False)
        said = markup.note("Choose an erasure; Compare then draws with it.") if listed else EMPTY
        return LibraryView(said, *lists, "", off, off, off, "", "")
    kept = erasure_list.find(listed, key)
    files = (gr.DownloadButton(value=path, interactive=True) for path in kept.files())
    known = card.facts(kept.erasure)
    rows = [("Comes from", kept.origin), *card.rows(kept.erasure)]
    said = markup.note(f"In use: {erasure_text.named(kept.erasure)}. Compare draws with it.", tone="good")
    programs = (known[name] or NOT_REPEATABLE for name in ("command_line", "python"))
    return LibraryView(said, *lists, table((), rows, "its record", "esd-card"), *files, *programs)


def refresh(ready: ErasureList, owned: ErasureList, erasure: Erasure | None) -> tuple[Any, ...]:
    """On opening the tab: an erasure that is not on the list yet is put there."""
    owned = erasure_list.keep(owned, erasure, besides=ready)
    return owned, *show(ready, owned, erasure)


def open_file(
    model: DiffusionModel, owned: ErasureList, path: str | None
) -> tuple[ErasureList, Erasure, None]:
    """Put an erasure's .safetensors file on the list and use it."""
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
    model: DiffusionModel, ready: ErasureList, tabs: Sequence[RestoredTab], owned: ErasureList, path: str
) -> tuple[Any, ...]:
    """Put the settings of a PNG that this app made back into the tabs.

    Returns:
        what to say, the erasure in use, and a value for each field of each tab.
    """
    with stream.refusals():
        made = png_parameters.read(path)
        values = {tab.name: tab.recall(made) for tab in tabs}
    found = next((kept.erasure for kept in (*ready, *owned) if kept.erasure.hash == made.erasure), None)
    elsewhere = (
        f"it was drawn by another model ({made.base}), so expect other pictures; a learning rate that fits "
        "one model may ruin another"
    )
    said = [
        f"Its settings are in {' and in '.join(name for name, own in values.items() if own)}",
        "its knobs are there under Grid over two knobs" if made.axes else "",
        "the erasure it was drawn with is in use" if found else "",
        "press Erase to make its erasure again, then Compare" if made.config and not found else "",
        elsewhere if made.base != model.fingerprint else "",
    ]
    status = markup.note(f"{escape('; '.join(filter(None, said)))}.", tone="good")
    filled = (values[tab.name].get(name, stream.SKIP) for tab in tabs for name in tab.fields)
    return status, found or stream.SKIP, *filled


def build(model: DiffusionModel, mine: Erasures, tab: gr.Tab, restored: Sequence[RestoredTab]) -> None:
    """Lay out the tab: the list and what can be done with it on the left, the record on the right."""
    owned, both, ready = mine.owned, [mine.owned, mine.in_use], mine.ready
    with blocks.columns():
        with blocks.panel():
            chosen = gr.Radio(
                erasure_list.choices(ready),
                label="Erasure in use",
                elem_id="library-list",
                info="The latest you made is in use; the others stay until you leave",
            )
            opened = opening(model, mine)
            picture = restoring(model, mine, restored)
            second, added = adding(model, mine)
        with blocks.result(elem_id="library-result"):
            shown = results(chosen, second)
            probe.build(model, mine.in_use)
    tab.select(partial(refresh, ready), both, [owned, *shown], **blocks.AT_ONCE)
    taken = chosen.input(
        partial(erasure_list.choose, ready),
        [owned, chosen],
        mine.in_use,
        api_visibility="private",
        **blocks.REFUSING,
    )
    for event in (taken, opened, picture, added):
        event.success(partial(show, ready), both, shown, **blocks.AT_ONCE, **blocks.LATEST)


def opening(model: DiffusionModel, mine: Erasures) -> Dependency:
    """A place for a file, folded; what happens when one is there. The API has it: `open_erasure`."""
    with gr.Accordion("Open a file", open=False):
        says = "An erasure or a LoRA of the UNet (.safetensors)"
        file = gr.File(label=says, height=150, file_types=[".safetensors"], elem_id="library-open")
    return file.upload(
        partial(open_file, model),
        [mine.owned, file],
        [mine.owned, mine.in_use, file],
        show_progress="hidden",
        **blocks.public("open_erasure", open_file),
    )


def restoring(model: DiffusionModel, mine: Erasures, tabs: Sequence[RestoredTab]) -> Dependency:
    """A place for a picture, folded; what happens when one is there."""
    with gr.Accordion("Restore settings from a picture", open=False):
        picture = gr.File(
            label="A PNG saved from this app", height=150, file_types=[".png"], elem_id="library-restore"
        )
        said = blocks.html()
    return picture.upload(
        partial(restore, model, mine.ready, tabs),
        [mine.owned, picture],
        [said, mine.in_use, *(field for tab in tabs for field in tab.fields.values())],
        api_visibility="private",
        **blocks.REFUSING,
    )


def adding(model: DiffusionModel, mine: Erasures) -> tuple[gr.Dropdown, Dependency]:
    """Another erasure of the list, folded, and the button that adds it."""
    with gr.Accordion("Add another to it", open=False):
        strength = gr.Slider(-1, 2, 1, step=0.1, label="Strength of the one in use")
        second = gr.Dropdown(erasure_list.choices(mine.ready), label="The other", filterable=False)
        other = gr.Slider(-1, 2, 1, step=0.1, label="Strength of the other")
        plus = gr.Button("Add", elem_id="library-add")
    both = [mine.owned, mine.in_use]
    asked, fn = [*both, strength, second, other], partial(add, model, mine.ready)
    return second, plus.click(fn, asked, both, **blocks.QUIET, **blocks.LOOKING)


def results(chosen: gr.Radio, second: gr.Dropdown) -> list[Any]:
    """Where each part of a `LibraryView` appears: the record, and how to take the erasure along."""
    status, known = blocks.html(EMPTY), blocks.html()
    with gr.Row(elem_classes="esd-downloads"):
        files = [
            gr.DownloadButton(what, interactive=False, size="md", min_width=150)
            for what in ("Download the erasure", "Card as Markdown", "Card as JSON")
        ]
    programs = [
        gr.Textbox(label=label, lines=lines, interactive=False, elem_classes="esd-code", buttons=["copy"])
        for label, lines in (("As a command line", 2), ("As a Python program", 9))
    ]
    return [status, chosen, second, known, *files, *programs]
