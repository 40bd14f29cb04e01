"""`import esd_core` and `--help` load nothing heavy; every public name is still there."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import esd_core

HEAVY = ("torch", "diffusers", "transformers", "numpy", "matplotlib")


def python(code: str) -> str:
    root = Path(esd_core.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def test_help_loads_nothing_heavy():
    shown = python(
        "import sys; from runpy import run_module\n"
        "for name in [], ['erase'], ['evaluate']:\n"
        "    sys.argv[1:] = [*name, '--help']\n"
        "    try: run_module('esd_core', run_name='__main__')\n"
        f"    except SystemExit: print('loaded', [m for m in {HEAVY} if m in sys.modules])"
    )
    assert shown.count("Usage:") == shown.count("loaded []") == 3


def test_every_public_name_is_there():
    for name in esd_core.__all__:
        assert getattr(esd_core, name) is not None
        assert isinstance(getattr(esd_core, name), ModuleType) == (name == "card")
    with pytest.raises(AttributeError, match="eraser"):
        _ = esd_core.eraser


def test_no_module_is_hidden_and_neither_command_line_nor_web_page_is_loaded():
    shown = python(
        "import sys, esd_core.erasing as module, esd_core\n"
        "from esd_core import *\n"
        "print(module.erase is erase, type(module).__name__, sample.__name__, card.__name__)\n"
        "print([m for m in ('esd_core.cli', 'typer', 'gradio') if m in sys.modules])"
    )
    assert shown.split() == ["True", "module", "sample", "esd_core.exchange.card", "[]"]
