"""Imports inside the app go one way: tabs to shared to server; the look stands alone."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

UI = Path(__file__).resolve().parents[2] / "ui"
BELOW = {"look": set(), "server": {"server"}, "shared": {"server", "shared"}}


@pytest.mark.parametrize("part", BELOW)
def test_what_the_tabs_stand_on_imports_nothing_above_it(part: str):
    for path in (UI / part).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ui"):
                folders = {node.module.split(".")[1]} if "." in node.module else {n.name for n in node.names}
                assert folders <= BELOW[part], (path.name, node.module)
