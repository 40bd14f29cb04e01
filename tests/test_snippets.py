"""Every command and every snippet that a document or docstring shows, as its reader would run it.

Only read are commands that need weights from elsewhere, take hours, or install something: what they name
must exist, and their options must be accepted.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner

import app
import esd_core
from esd_core import Erasure, preset
from esd_core.cli.app import app as command_line

ROOT = Path.cwd()
READMES = ("README.md", "ui/README.md", "bench/README.md", "lab/README.md", "CONTRIBUTING.md")
MODULES = [
    *ROOT.glob("esd_core/**/*.py"),
    *ROOT.glob("bench/*.py"),
    *ROOT.glob("tools/*.py"),
    ROOT / "app.py",
]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:\w+=\S+ )*(?:python|make|pip|accelerate|git) [^`]+)`")
INDENTED = re.compile(r"^ {4}((?:python -m|accelerate|git) .*(?:\\\n.*)*)", re.MULTILINE)  # in a docstring


def blocks(readme: str, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return [text for found, text in FENCED.findall((ROOT / readme).read_text()) if found == language]


def commands(text: str) -> Iterator[list[str]]:
    """The words of every command in it: one a line, or several joined by `&&`."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while "&&" in words:
            yield words[: words.index("&&")]
            words = words[words.index("&&") + 1 :]
        if words:
            yield words


def shown() -> list[str]:
    """Every command of the documents and of the modules' docstrings, once."""
    texts = []
    for readme in READMES:
        texts += blocks(readme, "bash")
        texts += [c.replace("\n", " ") for c in INLINE.findall(FENCED.sub("", (ROOT / readme).read_text()))]
    for module in MODULES:
        texts += INDENTED.findall(ast.get_docstring(ast.parse(module.read_text())) or "")
    return sorted({shlex.join(words) for text in texts for words in commands(text)})


def read(words: list[str]) -> None:
    """Raise or fail if the command names what does not exist or an option that is refused."""
    words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
    if words[0] == "accelerate" and "-m" in words:
        words = ["python", *words[words.index("-m") :]]
    match words:
        case ["make", *targets]:
            subprocess.run(["make", "-n", *targets], check=True, capture_output=True)
        case ["pip", "install", "-r", file]:
            assert (ROOT / file).is_file()
        case (
            ["python", "app.py", "--help"]
            | ["pip", "install", "gradio_client"]
            | ["git", "clone", _]
            | ["accelerate", "launch"]
        ):
            pass
        case ["python", "app.py", *options]:
            app.settings(options, {})
        case ["python", "-m", "pytest", *options]:
            assert all((ROOT / option).exists() for option in options if option.startswith("tests/"))
        case ["python", "-m", "esd_core", name, *options]:
            get_command(command_line).commands[name].make_context(name, options)
        case ["python", "-m", module, *options] if module.startswith("bench."):
            importlib.import_module(module).parser().parse_args(options)
        case ["python", "-m", module, *_]:
            assert find_spec(module)
        case other:
            pytest.fail(f"no rule for {other}; add one, or do not show the command")


def runs(words: list[str]) -> bool:
    """Whether a command is run here, not only read."""
    return words[:3] == ["python", "-m", "esd_core"] and "--model" not in words


def test_every_command_exists_and_takes_its_options():
    for command in shown():
        read(shlex.split(command))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of links, so that what a reader's commands write does not land in ours."""
    folder = tmp_path_factory.mktemp("checkout")
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "outputs":
            (folder / entry.name).symlink_to(entry)
    return folder


def reader(checkout: Path, *command: str) -> str:
    """What a command prints in a fresh process, which finds nothing but that checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = (sys.executable, *command[1:])
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def test_the_equation_is_the_one_that_is_computed():
    shown: dict = {}
    exec(blocks("README.md", "python")[0], shown)
    null, concept, context = torch.randn(3, 2, 4, 8, 8)
    for centre in (None, context):
        target = shown["erasing_target"](null, concept, 1.5, centre)
        assert torch.equal(target, esd_core.erasing_target(null, concept, 1.5, centre))


@pytest.mark.timeout(900)
def test_the_lines_of_python_erase_a_cat(checkout: Path, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    _, snippet = blocks("README.md", "python")
    exec(snippet, {})
    printed = capsys.readouterr().out.splitlines()
    (first, *_), (last, _, error) = (line.split() for line in (printed[0], printed[-1]))
    assert (int(first), int(last)) == (0, preset("live", "a cat").iterations)
    assert float(error) < 0.5  # of the frozen model's
    assert Erasure.load("cat.safetensors").provenance["iterations_done"] == int(last)


@pytest.mark.timeout(900)
def test_the_command_line_works_one_command_after_the_other(checkout: Path, monkeypatch):
    monkeypatch.chdir(checkout)
    lines = [words for text in blocks("README.md", "bash") for words in commands(text) if runs(words)]
    assert [words[3] for words in lines] == ["erase", "compare", "probe", "export"]
    assert reader(checkout, *lines[0])
    quick = {"compare": ["--steps", "4"], "probe": ["--pictures", "1", "--steps", "4"], "export": []}
    for words in lines[1:]:  # in this process, which has loaded everything
        made = CliRunner().invoke(command_line, [*words[3:], *quick[words[3]]])
        assert made.exit_code == 0 and made.stdout, made.output
    folder = checkout / "outputs/a-cat-esd-lora"
    for name in ("erasure.safetensors", "config.json", "before_after.png"):
        assert (folder / name).is_file()
    assert (checkout / "outputs/compare-a-cat.png").is_file()
    assert (checkout / "pipeline/model_index.json").is_file()


def examples() -> Iterator[tuple[str, str]]:
    """Whose docstring it is, and the code under its "Example:"."""
    for module in ROOT.glob("esd_core/**/*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                text = ast.get_docstring(node) or ""
                for code in re.findall(r"^Examples?:\n((?: {4}.*\n?|\n)+)", text, re.MULTILINE):
                    yield f"{module.stem}.{getattr(node, 'name', '')}", textwrap.dedent(code)


@pytest.mark.parametrize(("name", "code"), [pytest.param(*pair, id=pair[0]) for pair in examples()])
def test_the_example_of_a_docstring_runs(name, code, tiny):
    known = {public: getattr(esd_core, public) for public in esd_core.__all__}
    config = preset("live", "a cat", iterations=2, num_inference_steps=3, trajectories=2, preserve=0.0)
    exec(code, {**known, "model": tiny, "config": config})
