"""The notebooks in a real JupyterLab: Run All, knobs by keyboard, and no request outside.

JupyterLab is started by the command of `make lab`, on a copy of notebook 01 and on a notebook with
the kinds of widget it lacks. Screenshots go to outputs/screenshots.
"""

# The fixture comes from the other browser tests by import.
# ruff: noqa: F811

from __future__ import annotations

import html
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from lab.build import LAB
from tests.app.test_app_browser import chromium, local, shoot  # noqa: F401

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jupyterlab", reason="jupyterlab is not installed")

PATIENCE = 240_000  # milliseconds; a busy machine imports torch for minutes
TOKEN = "for-this-test-only"
EXPLORER = ".widget-vbox:has(> .widget-image)"
# No questions about news, no look-up of newer versions, and no cell left undrawn off the screen.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
LIST = """
from PIL import Image
from lab.controls import Explorer, choice, slider
draw = lambda shade: Image.new("L", (60, 60), shade)
Explorer(draw, "grey {shade}", run=True, shade=choice([10, 200]))
"""
LIVE = """
from esd_core import load_model
from lab.erasing_controls import LiveErasure
knobs = dict(concept=choice(["a cat"]), method=choice(["esd-x"]),
             eta=slider(1.0, 0.0, 3.0, 0.25), updates=slider(1, 0, 4, 1))
LiveErasure(load_model("emoji"), knobs, lambda concept: [concept, "a dog"], steps=2)
"""


def command(first: Path) -> tuple[dict[str, str], list[str]]:
    """What `make lab` runs, with the first notebook's place replaced: variables, and arguments."""
    asked = ["make", "--no-print-directory", "-n", "lab"]  # `make test` may be asking
    said = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    words = shlex.split(said.splitlines()[-1])
    start = next(i for i, word in enumerate(words) if word.endswith("/jupyter"))
    tool, notebook = words[start + 1 :]
    assert (tool, Path(notebook)) == ("lab", min(LAB.glob("*.ipynb")).relative_to(LAB.parent))
    variables = dict(word.split("=", 1) for word in words[:start])
    return variables, [sys.executable, "-m", "jupyterlab", str(first)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server works: notebook 01, one with the other widgets, Jupyter's own folders."""
    root = tmp_path_factory.mktemp("jupyter")
    shutil.copy(min(LAB.glob("*.ipynb")), root)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    cells = [nbformat.v4.new_code_cell(source) for source in (LIST, LIVE)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), root / "widgets.ipynb")
    for name, values in SETTINGS.items():
        path = root / f".settings/@jupyterlab/{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[tuple[str, str]]:
    """The server's address, and the page that it would have opened in a browser."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = [
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}",
        "--LabApp.extension_manager=readonly",
    ]
    own = {
        "JUPYTERLAB_SETTINGS_DIR": ".settings",
        "JUPYTERLAB_WORKSPACES_DIR": ".workspaces",
        "JUPYTER_RUNTIME_DIR": ".runtime",
        "JUPYTER_CONFIG_DIR": ".config",
        "IPYTHONDIR": ".ipython",
    }
    folders = {name: str(folder / path) for name, path in own.items()}
    browser = folder / "browser"  # writes down what it is asked to open
    browser.write_text(f'#!/bin/sh\necho "$1" > {folder}/.opened\n')
    browser.chmod(0o755)
    first = folder / min(LAB.glob("*.ipynb")).name
    variables, arguments = command(first)
    with open(folder / ".log", "w") as log:
        process = subprocess.Popen(
            [*arguments, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **folders, **variables, "BROWSER": f"{browser} %s"},
        )
    try:
        yield f"http://127.0.0.1:{port}", opened(process, folder / ".opened")
    finally:
        process.terminate()
        process.wait(60)


def opened(process: subprocess.Popen, address: Path) -> str:
    """Where the page leads that Jupyter told its browser to open, once it has."""
    for _ in range(600):
        assert process.poll() is None, address.with_name(".log").read_text()
        if address.exists() and (said := address.read_text().strip()):
            redirect = Path(unquote(said.removeprefix("file://"))).read_text()
            return html.unescape(re.search(r'href="([^"]+)"', redirect)[1])
        time.sleep(0.2)
    raise TimeoutError(address.with_name(".log").read_text())


@pytest.fixture
def page(chromium, server: tuple[str, str]) -> Iterator:
    """A page that must ask nothing of any other machine."""
    page = chromium.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(PATIENCE)
    outside = []
    page.on("request", lambda r: None if local(r.url, server[0]) else outside.append(r.url))
    yield page
    page.close()
    assert outside == []


def run_all(page) -> None:
    page.wait_for_selector(".jp-Notebook .jp-CodeCell")
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for()  # or Lab asks for one
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def picture(explorer) -> bytes:
    """What the explorer shows."""
    return explorer.locator(".widget-image").screenshot()


def wait_for_another(explorer, before: bytes) -> None:
    """Until the explorer shows another picture."""
    for _ in range(PATIENCE // 100):
        if picture(explorer) != before:
            return
        explorer.page.wait_for_timeout(100)
    raise TimeoutError("the picture stayed the same")


def test_notebook_01_opens_runs_and_follows_the_slider(page, server: tuple[str, str]):
    address, start = server
    assert "/lab/tree/01_" in start
    page.goto(start)
    run_all(page)
    explorer = page.locator(EXPLORER).first
    caption = explorer.locator("small")
    sync_api.expect(caption).to_contain_text("noised to t = 200", timeout=PATIENCE)
    explorer.scroll_into_view_if_needed()
    before = picture(explorer)
    explorer.get_by_role("slider").focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    sync_api.expect(caption).not_to_contain_text("t = 200", timeout=PATIENCE)
    wait_for_another(explorer, before)
    shoot(page, "lab-1-slider")
    page.locator(".jp-OutputArea-output [role=status]").first.wait_for()
    waiting = page.get_by_text("Predict first: choose an answer above")
    before = waiting.count()
    choices = page.locator(".widget-radio-box input").first
    choices.focus()
    page.keyboard.press("Space")
    page.get_by_text("Noted. Go on below").first.wait_for()
    sync_api.expect(waiting).to_have_count(before - 1)  # its picture has appeared
    choices.scroll_into_view_if_needed()
    shoot(page, "lab-2-prediction")
    assert page.locator(".jp-RenderedText[data-mime-type$='jupyter.error']").count() == 0  # no traceback


def test_a_list_and_an_erasure_wait_for_their_buttons(page, server: tuple[str, str]):
    # In a workspace without another notebook's tab.
    page.goto(f"{server[0]}/lab/workspaces/widgets/tree/widgets.ipynb?token={TOKEN}")
    run_all(page)
    listed, live = page.locator(EXPLORER).nth(0), page.locator(EXPLORER).nth(1)
    sync_api.expect(listed.locator("small")).to_contain_text("grey 10", timeout=PATIENCE)
    before = picture(listed)
    listed.locator("select").select_option("200")  # JupyterLab keeps the arrow keys for itself
    page.wait_for_timeout(500)
    assert picture(listed) == before
    listed.get_by_role("button", name="Run").focus()
    page.keyboard.press("Space")
    sync_api.expect(listed.locator("small")).to_contain_text("grey 200", timeout=PATIENCE)
    wait_for_another(listed, before)
    shoot(page, "lab-3-list-and-button")

    caption, run = live.locator("small"), live.get_by_role("button", name="Run")
    sync_api.expect(run).to_be_visible(timeout=PATIENCE)
    assert page.locator("[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    run.click()
    sync_api.expect(caption).to_contain_text("after 1", timeout=PATIENCE)
    before = picture(live)
    live.get_by_role("slider").last.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    run.focus()
    page.keyboard.press("Space")
    sync_api.expect(caption).to_contain_text("after 4", timeout=PATIENCE)
    wait_for_another(live, before)
    shoot(page, "lab-4-live-erasure")
