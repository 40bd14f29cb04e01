"""The notebooks: built from their source, solved ones run, blanks are noticed with a hint."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import nbformat
import pytest
from jupyter_client import AsyncKernelManager
from jupyter_core.utils import run_sync

from lab import build, pages
from lab.checks import exercises

SOURCES = build.sources()
IDS = [source.stem for source in SOURCES]
CHECK = re.compile(r'check\("([\d.]+)"')


def checked(notebook) -> list[str]:
    return [id for c in notebook.cells if c.cell_type == "code" for id in CHECK.findall(c.source)]


def test_the_notebooks_are_what_their_sources_make():
    assert SOURCES and build.outdated() == []


def test_blanks_and_answers():
    text = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    hidden = nbformat.v4.new_code_cell("secret", metadata={"tags": ["solution"]})
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text), hidden])
    assert [c.source for c in build.student(book).cells] == ["def f():\n    ...  # your answer"]
    assert [c.source for c in build.solution(book).cells] == ["def f():\n    return 1", "secret"]
    open_ended = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("### BEGIN SOLUTION")])
    with pytest.raises(ValueError, match="not closed"):
        build.student(open_ended)


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_its_parts_are_in_order(source):
    notebook = build.read(source)
    assert set(checked(notebook)) == set(exercises(source.stem[:2]))
    assert pages.title(notebook).endswith("?") and len(notebook.cells) <= 55
    long = [n for c in notebook.cells if c.cell_type == "code" and (n := lines(c.source)) > 10]
    assert len(long) <= 2 and max(long, default=0) <= 20  # imports, and a loop that is the lesson


def lines(source: str) -> int:
    """That a student reads: neither blank nor a marker of the answer."""
    return sum(bool(line.strip()) and "### " not in line for line in source.splitlines())


@pytest.fixture(scope="module")
def kernel() -> Iterator[AsyncKernelManager]:
    """One for all notebooks, as each new one imports torch again."""
    manager = AsyncKernelManager(kernel_name="python3")
    yield manager
    run_sync(manager.shutdown_kernel)(now=True)


@pytest.mark.timeout(900)  # a minute on idle cores, many beside other work
@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_a_solved_notebook_runs_and_every_check_passes(source, kernel):
    notebook = pages.execute(build.LAB / "solutions" / f"{source.stem}.ipynb", kernel=kernel)
    said = [
        output["data"]["text/plain"]
        for cell in notebook.cells
        if "check(" in cell.source
        for output in cell.get("outputs", ())
        if output.get("data", {}).get("text/plain", "").startswith("[")  # else a widget, a picture
    ]
    assert len(said) == len(checked(notebook))
    for verdict in said:
        assert re.match(r"\[[\d.]+\] Right\.", verdict), verdict
    html = pages.page(notebook)
    assert "<script" not in html and not re.search(r'(src|href)="(https?:)?//[^"]*\.(js|css)', html)
    assert html.count("data:image/png;base64") >= 2


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_blanks_are_noticed(source):
    """Setup, blanks, predictions and checks of the student's notebook, in one namespace."""
    names, verdicts = {}, {}
    for cell in build.student(build.read(source)).cells:
        if cell.cell_type != "code":
            continue
        for id in CHECK.findall(cell.source):
            answer = re.search(rf'check\("{re.escape(id)}", (\w+)\)', cell.source)[1]
            verdicts[id] = names["check"](id, names[answer])
        wanted = "setup" in cell.metadata.get("tags", ()) or build.BLANK in cell.source
        if wanted or "= Predict(" in cell.source:
            exec(cell.source, names)
    assert verdicts and {v.status for v in verdicts.values()} == {"empty"}, verdicts
    for id, verdict in verdicts.items():
        function = exercises(source.stem[:2])[id].cases
        assert ("fill in its blank" if function else "answer above") in verdict.message, verdict


@pytest.mark.parametrize("source", SOURCES, ids=IDS)
def test_a_blank_breaks_nothing_further_down(source):
    """Only its check reads what a blank leaves, unless that cell puts an answer in its place."""
    code = [c.source for c in build.student(build.read(source)).cells if c.cell_type == "code"]
    blanks = [i for i, text in enumerate(code) if build.BLANK in text]
    assert blanks
    for i in blanks:
        bound = ast.parse(code[i]).body[0]
        name = bound.name if isinstance(bound, ast.FunctionDef) else bound.targets[0].id
        later = [list(ast.walk(ast.parse(text))) for text in code[i + 1 :]]
        assert CHECK.search(code[i + 1]) and any(_is(n, name, ast.Load) for n in later[0])
        if any(_is(n, name, ast.Store) for n in later[0]):
            continue
        for nodes in later[1:]:
            assert not any(_is(n, name, ast.Load) for n in nodes), name


def _is(node: ast.AST, name: str, context: type) -> bool:
    return isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, context)
