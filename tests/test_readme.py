"""The example of the app's README for other programs, and the front matter of ours."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from esd_core import DiffusionModel, Erasure
from esd_core.exchange import png_parameters

README = Path("README.md").read_text()


@pytest.fixture
def url(emoji: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The app on the embedded model, because the example asks for what it knows."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    demo = app.build_demo(emoji)
    _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
    yield address
    demo.close()


def test_the_client_erases_compares_and_probes(url: str, capsys):
    code = re.search(r"```python\n(.*?)```", Path("ui/README.md").read_text(), re.DOTALL)[1]
    seen: dict = {}
    here = {"http://127.0.0.1:7860": url, "pictures_each=2": "pictures_each=1"}
    for shown, run in here.items():
        assert shown in code
        code = code.replace(shown, run)
    exec(code, seen)
    printed = capsys.readouterr().out
    assert re.search(r"update [1-9] of 20", printed)  # it streams
    assert Erasure.load(seen["erasure_file"]).provenance["iterations_done"] == 20
    assert seen["seed"] == 0
    assert png_parameters.read(seen["sheet"]).prompts == ("a rocket", "a bicycle")
    before, after = (seen["numbers"][state][0] for state in ("base", "erased"))
    assert before["prompts"] == ["a rocket"] and after["presence"] < before["presence"] / 2


def test_the_front_matter_is_a_space_that_can_install_us():
    front = dict(re.findall(r"^(\w+): (.+)$", README.split("---")[1], re.MULTILINE))
    needed = Path("requirements.txt").read_text()
    low, high = re.search(r"gradio>=([\d.]+),<(\d+)", needed).groups()
    version = tuple(map(int, front["sdk_version"].split(".")))
    assert tuple(map(int, low.split("."))) <= version[:2] < (int(high),)
    python = tomllib.loads(Path("pyproject.toml").read_text())["project"]["requires-python"]
    low, high = (tuple(map(int, part)) for part in re.findall(r"(\d+)\.(\d+)", python))
    assert low <= tuple(map(int, front["python_version"].strip('"').split("."))) < high
    assert Path(front["app_file"]).is_file() and len(front["short_description"]) <= 60
