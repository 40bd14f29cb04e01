"""How large each part of the code is, and which way its imports point.

    python -m tools.size            # or: make size
    python -m tools.size FOLDER     # another checkout

A function's lines begin at its `def` and leave out its docstring.
An arrow leads from a module to one that it imports, anywhere in
the file but under `if TYPE_CHECKING`; of `from esd_core import erase` to the module that defines the name.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

PARTS = tuple("support method exchange study plane cli ui app lab tools bench tests".split())
# Which parts the library and the app may import besides themselves: arrows go down only.
BELOW: dict[str, set[str]] = {"support": set(), "method": {"support"}}
BELOW["exchange"] = BELOW["study"] = BELOW["plane"] = {"support", "method"}
BELOW["cli"] = BELOW["ui"] = {"support", "method", "exchange", "study", "plane"}
BELOW["app"] = {*BELOW["ui"], "ui"}


def part_of(module: str) -> str:
    """The part that a module belongs to, both by their dotted names."""
    top, *rest = module.split(".")
    if top != "esd_core":
        return top
    if rest == ["__main__"]:
        return "cli"  # it starts the command line
    return rest[0] if rest and rest[0] in PARTS else "method"


def sources(root: Path) -> dict[str, str]:
    """The text of every module of a checkout, by its dotted name."""
    files = [root / "app.py"]
    for top in ("esd_core", *PARTS[6:]):
        files += sorted((root / top).rglob("*.py"))
    names = {file: ".".join(file.relative_to(root).with_suffix("").parts) for file in files}
    return {name.removesuffix(".__init__"): file.read_text() for file, name in names.items()}


def function_lines(text: str) -> dict[str, int]:
    """How many lines each function and method has, its docstring aside, by its name and first line."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return {
        f"{f.name}:{f.lineno}": _span(f) - (_span(f.body[0]) if ast.get_docstring(f) else 0) for f in found
    }


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def imported(node: ast.AST, typing_too: bool = False) -> Iterator[tuple[str, str]]:
    """(module, name) of every import below a node; the name is empty for `import module`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, "") for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((child.module or "", alias.name) for alias in child.names)
        elif typing_too or not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield from imported(child, typing_too)


def arrows(texts: dict[str, str]) -> set[tuple[str, str]]:
    """(module, module that it imports), both of the checkout."""
    public = {
        (package, name): module
        for package, text in texts.items()
        if package in PARTS or package == "esd_core"
        for module, name in imported(ast.parse(text), typing_too=True)
    }
    found = set()
    for module, text in texts.items():
        for target, name in imported(ast.parse(text)):
            whole = f"{target}.{name}"
            end = whole if whole in texts else public.get((target, name), target)
            if end in texts and end != module and module != "esd_core":
                found.add((module, end))
    return found


def upward(found: set[tuple[str, str]]) -> list[str]:
    """The arrows that lead from a part of the library or the app to one that is not below it."""
    pairs = [(a, b, part_of(a), part_of(b)) for a, b in sorted(found)]
    return [f"{a} -> {b}" for a, b, part, end in pairs if part in BELOW and end not in {part, *BELOW[part]}]


def cycles(found: set[tuple[str, str]]) -> set[str]:
    """The modules that import each other round about: what is left when no end can be taken away."""
    left = set(found)
    while ends := {b for _, b in left} - {a for a, _ in left}:
        left = {(a, b) for a, b in left if b not in ends}
    while starts := {a for a, _ in left} - {b for _, b in left}:
        left = {(a, b) for a, b in left if a not in starts}
    return {a for a, _ in left}


def table(root: Path) -> str:
    """Sizes of all parts, and the arrows within the library and the app."""
    texts = sources(root)
    lines = [f"{'part':8}{'files':>6}{'lines':>8}{'longest':>9}  functions: median, longest"]
    for part in PARTS:
        mine = [text for name, text in texts.items() if part_of(name) == part]
        lengths = [n for text in mine for n in function_lines(text).values()] or [0]
        counts = [text.count("\n") for text in mine] or [0]
        lines.append(
            f"{part:8}{len(mine):6}{sum(counts):8,}{max(counts):9}{median(lengths):20.0f}{max(lengths):9}"
        )
    found = arrows(texts)
    inside = [(a, b) for a, b in found if part_of(a) in BELOW and part_of(b) in BELOW]
    lines += [f"imports of our own modules: {len(found)}, {len(inside)} of them in the library and the app"]
    lines += [f"not downwards: {arrow}" for arrow in upward(found)]
    lines += [f"in a circle: {module}" for module in sorted(cycles(found))]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(Path(sys.argv[1] if len(sys.argv) > 1 else ".")))
