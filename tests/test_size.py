"""The code keeps its budgets: sizes of files and functions, and imports that point down only."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import size

# What a part may have: it only ever falls, towards the budgets in CONTRIBUTING.
LINES = {"support": 253, "method": 2233, "exchange": 607, "study": 1490, "plane": 300}
LINES |= {"cli": 1058, "ui": 4586}
FILE, FUNCTION = 280, 40


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return size.sources(Path("."))


@pytest.mark.parametrize("part", LINES)
def test_a_part_keeps_its_lines(texts, part):
    assert sum(text.count("\n") for name, text in texts.items() if size.part_of(name) == part) <= LINES[part]


def test_no_file_and_no_function_is_too_long(texts):
    files = {name: text.count("\n") for name, text in texts.items() if size.part_of(name) in size.BELOW}
    functions = {
        f"{name}.{function}": lines
        for name in files
        for function, lines in size.function_lines(texts[name]).items()
    }
    assert {name: n for name, n in files.items() if n > FILE} == {}
    assert {name: n for name, n in functions.items() if n > FUNCTION} == {}


def test_imports_point_down_and_never_in_a_circle(texts):
    arrows = size.arrows(texts)
    assert size.upward(arrows) == []
    assert size.cycles({(a, b) for a, b in arrows if size.part_of(a) in size.BELOW}) == set()


def test_arrows_are_found_through_public_names_and_not_for_type_checkers():
    texts = {
        "esd_core": "if TYPE_CHECKING:\n    from esd_core.study.probe import probe\n",
        "esd_core.erasing": "from esd_core import probe\nif TYPE_CHECKING:\n    import app\n",
        "esd_core.study.probe": "def f():\n    from esd_core import erasing\n",
        "app": "import esd_core.erasing\nimport torch\n",
    }
    arrows = size.arrows(texts)
    up, down = ("esd_core.erasing", "esd_core.study.probe"), ("esd_core.study.probe", "esd_core.erasing")
    assert arrows == {up, down, ("app", "esd_core.erasing")}
    assert size.upward(arrows) == [" -> ".join(up)]
    assert size.cycles(arrows) == set(up)
    assert size.cycles(arrows - {up}) == set()
    assert size.function_lines("x = 1\n\ndef f():\n    return 2\n") == {"f:3": 2}
