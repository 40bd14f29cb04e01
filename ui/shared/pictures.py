"""Tensors to HTML: figures with captions and alternative text that says prompt, state and seed."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

from markupsafe import Markup
from torch import Tensor

from esd_core import Comparison
from esd_core.exchange import png_parameters
from esd_core.study.figures import to_pil
from esd_core.study.watched_prompts import Watched
from ui.shared import tables

LARGEST = 256  # pixels a side in a strip; the pictures themselves may be larger


def quoted(prompt: str) -> Markup:
    """A prompt in quotation marks, the empty one by its name."""
    return Markup("“{}”").format(prompt) if prompt else Markup("the empty prompt")


def img(
    picture: Tensor, alt: str, largest: int = LARGEST, made: png_parameters.Parameters | None = None
) -> Markup:
    """An `<img>` of a picture `(3, H, W)` in [0, 1], self-contained; saved, it tells how it was
    made."""
    drawn = to_pil(picture)
    drawn.thumbnail((largest, largest))
    if made is not None:
        png_parameters.stamp(drawn, made)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", pnginfo=png_parameters.info_of(drawn))
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" title="{}">').format(data, alt, alt)


def shown_file(path: Path, alt: str) -> str:
    """An `<img>` of a PNG file, self-contained and no larger than its place."""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img class="esd-sheet" src="data:image/png;base64,{data}" alt="{escape(alt)}">'


def strip(
    prompts: Sequence[Watched],
    seeds: Sequence[int],
    before: Tensor | None = None,
    now: Tensor | None = None,
    updates: int = 0,
) -> str:
    """Before above, now below, from the same noise; a block per prompt.

    Args:
        before: pictures `(prompts, seeds, 3, H, W)` of the frozen model; None draws blanks.
        now: the same of the edited model after `updates` updates, maybe of the first seeds only.
    """
    reached = f"after {updates} updates" if now is not None else "after"
    blocks = []
    for i, item in enumerate(prompts):
        rows = "".join(
            _row(item.prompt, seeds, None if drawn is None else drawn[i], state)
            for drawn, state in ((before, "before"), (now, reached))
        )
        head = f"<h2>{quoted(item.prompt)} <small>{escape(item.role)}</small></h2>"
        blocks.append(f'<section class="esd-block">{head}<div>{rows}</div></section>')
    return f'<div class="esd-strip">{"".join(blocks)}</div>'


def _row(prompt: str, seeds: Sequence[int], drawn: Tensor | None, state: str) -> str:
    cells = (
        '<span class="esd-blank"></span>'
        if drawn is None or j >= drawn.shape[0]
        else img(drawn[j], f"{prompt or 'the empty prompt'}, seed {seed}, {state}")
        for j, seed in enumerate(seeds)
    )
    return (
        f"<figure><figcaption>{state}</figcaption>"
        f'<div class="esd-pictures" style="--columns:{len(seeds)}">{"".join(cells)}</div></figure>'
    )


def table(comparison: Comparison, made: png_parameters.Parameters, largest: int = 512) -> Markup:
    """A row per prompt and seed, a column per model, all from the same noise."""
    states = {"erased": f"erased at strength {made.strength:g}"}

    def cells(place: tuple[int, int], of: str) -> Iterator[Markup]:
        for name, drawn in comparison.columns.items():
            alt = f"{of}, {states.get(name, name)}"
            yield img(drawn[place], alt, largest, replace(made, column=name, place=place))

    rows = [
        [
            Markup("{}<small>seed {}</small>").format(quoted(prompt), seed),
            *cells((i, j), f"{prompt or 'the empty prompt'}, seed {seed}"),
        ]
        for i, prompt in enumerate(comparison.prompts)
        for j, seed in enumerate(comparison.seeds)
    ]
    return tables.table(["", *comparison.columns], rows, "Pictures of each model", "esd-table")


def note(text: str, *, done: float | None = None, tone: str = "plain") -> str:
    """A status line that screen readers announce, with a progress bar if `done` (0 to 1) is given.

    Args:
        text: HTML; escape what a visitor typed.
        tone: `plain` or `good`.
    """
    bar = ""
    if done is not None:
        bar = f'<progress max="1" value="{done:.3f}" aria-label="progress"></progress>'
    return f'<div class="esd-note esd-{tone}" role="status"><p>{text}</p>{bar}</div>'
