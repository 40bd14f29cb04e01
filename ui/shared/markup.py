"""What tabs show as HTML: pictures whose alternative text says how they came about, tables, statuses."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from markupsafe import Markup
from torch import Tensor

from esd_core.exchange import png_parameters
from esd_core.study.figures import to_pil


def quoted(prompt: str) -> Markup:
    """A prompt in quotation marks, the empty one by its name."""
    return Markup("“{}”").format(prompt) if prompt else Markup("the empty prompt")


def img(
    picture: Tensor, alt: str, largest: int = 256, made: png_parameters.Parameters | None = None
) -> Markup:
    """An `<img>` of a picture `(3, H, W)` in [0, 1], self-contained; saved, it tells how it was made."""
    drawn = to_pil(picture)
    drawn.thumbnail((largest, largest))
    if made is not None:
        png_parameters.stamp(drawn, made)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG", pnginfo=png_parameters.info_of(drawn))
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup('<img src="data:image/png;base64,{}" alt="{}" title="{}">').format(data, alt, alt)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, kind: str = "") -> Markup:
    """A row's first cell is its heading, the others belong to the columns.

    Args:
        head: the columns' headings, that of the rows' headings first ("" leaves its cell empty);
            without any, the table has no row of headings.
        rows: cells; text is escaped, `Markup` stands as it is.
        caption: what the table holds, for screen readers; the page shows its own heading.
        kind: the class by which style.css knows it.
    """
    column, cell, row = map(
        Markup, ('<th scope="col">{}</th>', "<td>{}</td>", '<tr><th scope="row">{}</th>{}</tr>')
    )
    columns = Markup("").join((column if name else cell).format(name) for name in head)
    body = Markup("").join(
        row.format(name, Markup("").join(map(cell.format, cells))) for name, *cells in rows
    )
    top = Markup("<thead><tr>{}</tr></thead>").format(columns) if head else ""
    return Markup('<table class="{}" aria-label="{}">{}<tbody>{}</tbody></table>').format(
        kind, caption, top, body
    )


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
