"""Rendered pages: pictures keep their descriptions, libraries' chatter is left out."""

import nbformat
from PIL import Image

from lab import pages
from lab.controls import Explorer, Picture, slider


def executed(*outputs) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_markdown_cell("# Why?"), nbformat.v4.new_code_cell("x")]
    cells[1].outputs = list(outputs)
    return nbformat.v4.new_notebook(cells=cells)


def shown(thing) -> nbformat.NotebookNode:
    data, metadata = thing._repr_mimebundle_()
    return nbformat.v4.new_output("display_data", data, metadata=metadata)


def test_pictures_and_explorers_keep_their_descriptions():
    def square(grey):
        return Image.new("L", (8, 8), grey)

    picture = Picture(square(3), "a <grey> square")
    explorer = Explorer(square, "grey {grey}", grey=slider(10, 0, 255, 1))
    html = pages.page(executed(shown(picture), shown(explorer)))
    assert 'alt="a &lt;grey&gt; square"' in html and 'alt="grey 10"' in html
    assert html.count("<img") == 2 and "No description" not in html


def test_warnings_of_libraries_and_progress_bars_are_left_out():
    streams = [nbformat.v4.new_output("stream", name=n, text=f"to {n}") for n in ("stdout", "stderr")]
    html = pages.page(executed(*streams))
    assert "to stdout" in html and "to stderr" not in html
