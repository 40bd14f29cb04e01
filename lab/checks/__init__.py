"""Answers that check themselves: `check("1.2", answer)`.

Every exercise has one right answer, the wrong ones that people are known to give, each with a hint
of its own, and a sentence for who got it right. Nothing that is shown holds the answer. Exercises
of notebook NN live in `lab/checks/nbNN.py`; the tests try every one of their wrong answers.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import torch
from torch import Tensor

Status = Literal["passed", "empty", "wrong"]
LOOK = {
    "passed": ("#2e7d32", "Right"),
    "empty": ("#6b7280", "Not answered yet"),
    "wrong": ("#b45309", "Not yet"),
}


@dataclass(frozen=True)
class Exercise:
    """What is right, what is known to go wrong, and what to say.

    If the student writes a function, `answer` and the wrong ones are functions, compared by what
    they return for `cases()`; otherwise they are values: text, numbers, tensors, or lists of them.
    """

    answer: Any
    praise: str  # what the right answer means
    wrong: Sequence[tuple[Any, str]] = ()  # (a wrong answer, its hint)
    hint: str = ""  # for any other wrong answer
    cases: Callable[[], list[tuple]] | None = None
    tolerance: float = 1e-4  # relative, and absolute near 0


@dataclass(frozen=True)
class Verdict:
    """What a check says; shows itself in a notebook."""

    id: str
    status: Status
    message: str

    def __bool__(self) -> bool:
        return self.status == "passed"

    def __repr__(self) -> str:
        return f"[{self.id}] {LOOK[self.status][1]}. {self.message}"

    def _repr_html_(self) -> str:
        colour, word = LOOK[self.status]
        return (
            f'<div role="status" style="border-left:4px solid {colour};padding:.4em .8em">'
            f"<b>{escape(self.id)} · {word}.</b> {escape(self.message)}</div>"
        )


def exercises(notebook: str) -> dict[str, Exercise]:
    """All exercises of one notebook, by id: those of "01" are "1.1", "1.2", ..."""
    return importlib.import_module(f"lab.checks.nb{notebook}").EXERCISES


def check(id: str, answer: Any) -> Verdict:
    """Judge an answer; a widget that has a `value` is judged by it.

    Raises:
        KeyError: there is no such exercise.
    """
    exercise = exercises(f"{int(id.split('.')[0]):02}")[id]
    if hasattr(answer, "value") and not isinstance(answer, Tensor):
        answer = answer.value
    if answer is None or answer is ...:
        return Verdict(id, "empty", "Choose or write an answer above and run its cell, then this.")
    if exercise.cases is None:
        return _judge(id, exercise, answer, lambda value: value)
    if not callable(answer):
        return Verdict(id, "wrong", "Hand over the function itself, without calling it.")
    cases = exercise.cases()
    try:
        given = [answer(*case) for case in cases]
    except Exception as error:  # a student's function may raise anything
        return Verdict(id, "wrong", f"Your function raised {type(error).__name__}: {error}")
    if any(value is None or value is ... for value in given):
        return Verdict(id, "empty", "Your function returns nothing yet: fill in its blank.")
    return _judge(id, exercise, given, lambda function: [function(*case) for case in cases])


def _judge(id: str, exercise: Exercise, given: Any, of: Callable[[Any], Any]) -> Verdict:
    if same(given, of(exercise.answer), exercise.tolerance):
        return Verdict(id, "passed", exercise.praise)
    for wrong, hint in exercise.wrong:
        if same(given, of(wrong), exercise.tolerance):
            return Verdict(id, "wrong", hint)
    return Verdict(id, "wrong", exercise.hint or "That is not it; read the question once more.")


def same(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Equal text, close numbers, tensors of one shape with close entries, or lists of such."""
    if isinstance(a, str) or isinstance(b, str):
        return isinstance(a, str) and isinstance(b, str) and a.strip().lower() == b.lower()
    if isinstance(b, list | tuple | set):
        if isinstance(b, set):
            return isinstance(a, list | tuple | set) and set(a) == b
        if not isinstance(a, list | tuple) or len(a) != len(b):
            return False
        return all(same(x, y, tolerance) for x, y in zip(a, b, strict=True))
    try:
        x, y = torch.as_tensor(a).detach().double(), torch.as_tensor(b).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return False
    return x.shape == y.shape and torch.allclose(x, y, rtol=tolerance, atol=tolerance)
