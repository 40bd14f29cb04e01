"""Render the solved notebooks as pages that need nothing else: `python -m lab.pages [folder]`.

Executes every notebook of `lab/solutions`, then writes one HTML file each and an index. The pages
load no script and ask nothing of any other machine; where a notebook has a widget they show its
picture.
"""

from __future__ import annotations

import os
import re
import sys
import time
from html import escape
from pathlib import Path

import nbformat
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from nbformat import NotebookNode

from lab.build import LAB

SHOWN = ["text/html", "image/svg+xml", "image/png", "image/jpeg", "text/markdown", "text/plain"]
SCRIPT = re.compile(r"<script\b.*?</script>", re.DOTALL)
FRAME = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ESD Lab</title>
<style>body{{font:16px/1.6 system-ui,sans-serif;max-width:42em;margin:3em auto;padding:0 1em}}
</style></head><body><h1>ESD Lab: the notebooks, solved</h1><ol>{items}</ol></body></html>
"""


def execute(path: Path, timeout: int = 600, kernel: KernelManager | None = None) -> NotebookNode:
    """A notebook with its outputs. Its kernel starts beside it and finds the repository; a given one,
    which forgets what another notebook named, is left running."""
    os.environ.update(PYTHONPATH=str(LAB.parent), TQDM_DISABLE="1")  # and no progress bars
    notebook = nbformat.read(path, as_version=4)
    if kernel is not None:
        notebook.cells.insert(0, nbformat.v4.new_code_cell("%reset -f"))
    client = NotebookClient(
        notebook,
        km=kernel,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(LAB)}},
    )
    client.execute()
    if kernel is not None:
        del notebook.cells[0]
    return notebook


def title(notebook: NotebookNode) -> str:
    """The first heading."""
    return next(
        line.lstrip("# ").strip()
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for line in cell.source.splitlines()
        if line.startswith("# ")
    )


def described(output: NotebookNode) -> dict[str, str]:
    """An output's data, its picture with the description that nbconvert would leave out."""
    about = output.get("metadata", {}).get("image/png", {}).get("alt")
    if not about:
        return output["data"]
    image = output["data"]["image/png"].replace("\n", "")
    tag = f'<img alt="{escape(about)}" src="data:image/png;base64,{image}">'
    return {**output["data"], "text/html": tag}


def page(notebook: NotebookNode) -> str:
    """Self-contained HTML of an executed notebook."""
    exporter = HTMLExporter(template_name="lab", embed_images=True)
    exporter.config.NbConvertBase.display_data_priority = SHOWN
    exporter = HTMLExporter(config=exporter.config, template_name="lab", embed_images=True)
    notebook = nbformat.from_dict(notebook)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":  # what libraries warn of goes there
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.get("outputs", ()):
            if output.get("data"):
                output["data"] = {m: d for m, d in described(output).items() if m in SHOWN}
    body, _ = exporter.from_notebook_node(notebook)
    body = SCRIPT.sub("", body)
    return body.replace("<title>Notebook</title>", f"<title>{escape(title(notebook))}</title>")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/lab")
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for path in sorted((LAB / "solutions").glob("*.ipynb")):
        begun = time.perf_counter()
        notebook = execute(path)
        seconds = time.perf_counter() - begun  # its kernel's start included
        name = f"{path.stem}.html"
        (folder / name).write_text(page(notebook))
        items.append(f'<li><a href="{name}">{escape(title(notebook))}</a></li>')
        print(f"{folder / name}  {seconds:.0f} s", flush=True)
    (folder / "index.html").write_text(FRAME.format(items="\n".join(items)))


if __name__ == "__main__":
    main()
