"""Make the notebooks from their source: `python -m lab.build`.

`lab/source/NN_name.py` (jupytext's percent format) holds a notebook with its answers. From it come

- `lab/NN_name.ipynb`, for students: what stands between `### BEGIN SOLUTION` and `### END SOLUTION`
  becomes `...  # your answer`, and cells tagged `solution` are gone;
- `lab/solutions/NN_name.ipynb`: everything, without the markers.

Both are written without outputs; `--check` writes nothing and says which are out of date.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

LAB = Path(__file__).parent
BLOCK = re.compile(
    r"^([ \t]*)### BEGIN SOLUTION\n(.*?)^[ \t]*### END SOLUTION[ \t]*$", re.DOTALL | re.MULTILINE
)
BLANK = "...  # your answer"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def sources() -> list[Path]:
    """Every notebook's source, in the order of the course."""
    return sorted((LAB / "source").glob("[0-9]*.py"))


def read(source: Path) -> NotebookNode:
    """A source as a notebook, markers and all, with ids that depend on the position only."""
    notebook = jupytext.read(source, fmt="py:percent")
    cells = []
    for i, cell in enumerate(notebook.cells):
        make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
        metadata = {"tags": cell.metadata["tags"]} if cell.metadata.get("tags") else {}
        new = make[cell.cell_type](cell.source.strip(), metadata=metadata)
        cells.append(nbformat.from_dict({**new, "id": f"cell-{i:02}"}))
    language = {"name": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL, "language_info": language})


def student(notebook: NotebookNode) -> NotebookNode:
    """With blanks for answers."""
    kept = [c for c in notebook.cells if "solution" not in c.metadata.get("tags", ())]
    return _with(notebook, kept, rf"\1{BLANK}")


def solution(notebook: NotebookNode) -> NotebookNode:
    """With answers and without the lines that mark them."""
    return _with(notebook, notebook.cells, lambda m: m[2].rstrip("\n"))


def _with(notebook: NotebookNode, cells: list[NotebookNode], block) -> NotebookNode:
    new = [nbformat.from_dict({**c, "source": BLOCK.sub(block, c.source)}) for c in cells]
    for cell in new:
        if "SOLUTION" in cell.source:
            raise ValueError(f"a solution block is not closed: {cell.source!r}")
    return nbformat.from_dict({**notebook, "cells": new})


def targets(source: Path) -> dict[Path, str]:
    """The two notebooks of a source, as text, by where they belong."""
    notebook, name = read(source), f"{source.stem}.ipynb"
    made = {LAB / name: student(notebook), LAB / "solutions" / name: solution(notebook)}
    return {path: nbformat.writes(book, indent=1) + "\n" for path, book in made.items()}


def outdated() -> list[Path]:
    """Notebooks that differ from what their source makes, or that have no source."""
    made = {path: text for source in sources() for path, text in targets(source).items()}
    there = [*LAB.glob("*.ipynb"), *(LAB / "solutions").glob("*.ipynb")]
    changed = [p for p, text in made.items() if not p.exists() or p.read_text() != text]
    return changed + [p for p in there if p not in made]


def main() -> None:
    if "--check" in sys.argv:
        if stale := outdated():
            sys.exit("run `python -m lab.build`; out of date: " + ", ".join(map(str, stale)))
        return
    for source in sources():
        for path, text in targets(source).items():
            path.write_text(text)


if __name__ == "__main__":
    main()
