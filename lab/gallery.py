"""One picture from each notebook for the lab's README: `python -m lab.gallery [NN ...]`.

Runs the solved notebooks named by their numbers (all, if none is), keeps the picture of the cell
tagged `gallery`, or else the first, as `lab/gallery/NN.png`, and rewrites the README's section.
"""

from __future__ import annotations

import base64
import io
import re
import sys

from nbformat import NotebookNode
from PIL import Image, PngImagePlugin

from lab.build import LAB, read, sources
from lab.pages import execute, title

FOLDER = LAB / "gallery"
BYTES = 60_000  # of a picture at most
WIDTHS = (720, 600, 480, 360, 240)  # tried in turn
SECTION = re.compile(r"(<!-- gallery -->\n).*(<!-- /gallery -->)", re.DOTALL)


def picture(notebook: NotebookNode) -> tuple[bytes, str]:
    """The PNG to show of an executed notebook, and what it shows.

    Raises:
        ValueError: the notebook has no picture, or its tagged cell has none.
    """
    tagged = [cell for cell in notebook.cells if "gallery" in cell.metadata.get("tags", ())]
    for cell in tagged or notebook.cells:
        for output in cell.get("outputs", ()):
            if data := output.get("data", {}).get("image/png"):
                about = output.get("metadata", {}).get("image/png", {}).get("alt", "")
                return base64.b64decode(data), about
    where = "the cell tagged `gallery`" if tagged else "this notebook"
    raise ValueError(f"{where} shows no picture ({title(notebook)})")


def shrink(data: bytes, about: str) -> bytes:
    """A PNG of at most BYTES bytes that carries its description."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    for width in WIDTHS:
        small = image.copy()
        small.thumbnail((width, 2 * width), Image.Resampling.LANCZOS)
        info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
        info.add_itxt("Description", about)
        small.quantize(96).save(buffer, format="png", optimize=True, pnginfo=info)
        if buffer.tell() <= BYTES:
            return buffer.getvalue()
    raise ValueError(f"no width of {WIDTHS} brings this picture under {BYTES} bytes")


def section() -> str:
    """The README's gallery: title, picture and description of every notebook that has one."""
    entries = []
    for source in sources():
        path = FOLDER / f"{source.stem[:2]}.png"
        if path.exists():
            about = Image.open(path).text.get("Description", "").replace("\n", " ")
            heading = f"**{source.stem[:2]} · {title(read(source))}**"
            entries.append(f"{heading} {about}.\n\n![{about}](gallery/{path.name})\n")
    return "\n".join(entries)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path in sorted((LAB / "solutions").glob("*.ipynb")):
        number = path.stem[:2]
        if len(sys.argv) == 1 or number in sys.argv[1:]:
            data, about = picture(execute(path))
            (FOLDER / f"{number}.png").write_bytes(shrink(data, about))
            print(FOLDER / f"{number}.png")
    readme = LAB / "README.md"
    readme.write_text(SECTION.sub(lambda m: m[1] + section() + m[2], readme.read_text()))


if __name__ == "__main__":
    main()
