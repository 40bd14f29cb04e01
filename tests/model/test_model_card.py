"""The model card's own lines, as a stranger runs them: diffusers alone, nothing of ours on the path."""

import re
import subprocess
import sys
from pathlib import Path

CARD = Path(__file__).resolve().parents[2] / "assets" / "emoji" / "README.md"
SNIPPETS = re.findall(r"^```python\n(.*?)^```", CARD.read_text(), re.M | re.S)


def test_the_cards_lines_run_with_diffusers_alone(tmp_path):
    assert SNIPPETS
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "emoji").symlink_to(CARD.parent)
    each = f"for lines in {SNIPPETS!r}: exec(lines, {{}})"
    command = [sys.executable, "-I", "-c", each]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr
