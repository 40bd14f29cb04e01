"""The model card's own lines, as a stranger runs them: diffusers alone, nothing of ours on the path."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CARD = Path(__file__).resolve().parents[2] / "assets" / "emoji" / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", CARD.read_text(), re.M | re.S)


def test_the_card_has_lines_to_run():
    assert SNIPPETS


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_cards_lines_run_with_diffusers_alone(snippet, tmp_path):
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "emoji").symlink_to(CARD.parent)
    ran = subprocess.run(
        [sys.executable, "-I", "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=250
    )
    assert ran.returncode == 0, ran.stderr
