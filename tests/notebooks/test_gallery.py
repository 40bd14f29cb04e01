"""The lab's README: a picture small enough for each notebook, and a row for each."""

import base64
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from lab import build, gallery, pages

README = (build.LAB / "README.md").read_text()


def notebook(*shown: tuple[str, bool]) -> nbformat.NotebookNode:
    """A cell for each (alt text, tagged), each with a picture."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(buffer, format="png")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    cells = [nbformat.v4.new_markdown_cell("# Why?")]
    for alt, tagged in shown:
        output = nbformat.v4.new_output("display_data", data, metadata={"image/png": {"alt": alt}})
        metadata = {"tags": ["gallery"]} if tagged else {}
        cells.append(nbformat.v4.new_code_cell("x", outputs=[output], metadata=metadata))
    return nbformat.v4.new_notebook(cells=cells)


def test_the_tagged_picture_is_taken_or_else_the_first():
    assert gallery.picture(notebook(("first", False), ("best", True)))[1] == "best"
    assert gallery.picture(notebook(("first", False), ("second", False)))[1] == "first"
    with pytest.raises(ValueError, match=r"no picture \(Why\?\)"):
        gallery.picture(notebook())


def test_a_large_picture_becomes_small_and_keeps_its_description():
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="png")
    small = gallery.shrink(buffer.getvalue(), "nothing but noise – really")
    image = Image.open(io.BytesIO(small))
    assert len(small) <= gallery.BYTES < len(buffer.getvalue())
    assert image.width >= 240 and image.text["Description"] == "nothing but noise – really"


@pytest.mark.parametrize("source", build.sources(), ids=lambda s: s.stem)
def test_the_readme_has_a_row_of_every_notebook(source):
    row = next(line for line in README.splitlines() if line.startswith(f"| [{source.stem[:2]} "))
    assert f"]({source.stem}.ipynb)" in row
    assert f"| {pages.title(build.read(source))} |" in row


@pytest.mark.parametrize("path", sorted(gallery.FOLDER.glob("*.png")), ids=lambda p: p.stem)
def test_a_picture_of_the_gallery_is_small_described_and_shown(path):
    assert path.stat().st_size <= gallery.BYTES
    assert Image.open(path).text["Description"]
    assert f"gallery/{path.name}" in README


def test_the_readmes_gallery_is_up_to_date():
    assert gallery.SECTION.search(README)[0].split("-->\n", 1)[1].startswith(gallery.section())
