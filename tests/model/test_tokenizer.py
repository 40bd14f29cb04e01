"""The embedded model's tokenizer is made the same way every time (`make model` is repeatable)."""

import os
import subprocess
import sys

from tools import tokenizer

PRINT_MODEL = "from tools import tokenizer; print(tokenizer.build().backend_tokenizer.to_str())"


def test_another_process_learns_the_same_merges_and_ids():
    other = {**os.environ, "PYTHONHASHSEED": "1"}  # sets in another order
    command = [sys.executable, "-c", PRINT_MODEL]
    made = subprocess.run(command, capture_output=True, text=True, check=True, env=other).stdout
    assert "openmoji</w>" in made
    assert made.rstrip("\n") == tokenizer.build().backend_tokenizer.to_str()
