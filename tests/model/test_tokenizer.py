"""The embedded model's tokenizer is made the same way every time (`make model` is repeatable)."""

import subprocess
import sys

PRINT_MODEL = "from tools import tokenizer; print(tokenizer.build().backend_tokenizer.to_str())"


def test_two_processes_learn_the_same_merges_and_ids():
    first, second = (
        subprocess.run([sys.executable, "-c", PRINT_MODEL], capture_output=True, text=True) for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert "openmoji</w>" in first.stdout
    assert first.stdout == second.stdout
