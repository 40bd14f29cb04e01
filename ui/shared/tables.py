"""A table as HTML: it names itself to screen readers, and escapes whatever is not HTML already."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

_COLUMN = Markup('<th scope="col">{}</th>')
_ROW = Markup('<tr><th scope="row">{}</th>{}</tr>')
_CELL = Markup("<td>{}</td>")


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, kind: str = "") -> Markup:
    """A row's first cell is its heading, the others belong to the columns.

    Args:
        head: the columns' headings, that of the rows' headings first ("" leaves its cell empty);
            without any, the table has no row of headings.
        rows: cells; text is escaped, `Markup` stands as it is.
        caption: what the table holds, for screen readers; the page shows its own heading.
        kind: the class by which style.css knows it.
    """
    columns = Markup("").join(_COLUMN.format(name) if name else Markup("<td></td>") for name in head)
    body = Markup("").join(
        _ROW.format(name, Markup("").join(map(_CELL.format, cells))) for name, *cells in rows
    )
    top = Markup("<thead><tr>{}</tr></thead>").format(columns) if head else ""
    return Markup('<table class="{}" aria-label="{}">{}<tbody>{}</tbody></table>').format(
        kind, caption, top, body
    )
