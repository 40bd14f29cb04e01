"""Answers that check themselves: right ones pass, known wrong ones get their own hint."""

import pytest
import torch

from lab.build import sources
from lab.checks import check, exercises, same

EVERY = {id: e for s in sources() for id, e in exercises(s.stem[:2]).items()}


@pytest.mark.parametrize("id", EVERY)
def test_the_answer_passes_and_every_known_mistake_gets_its_own_hint(id):
    exercise = EVERY[id]
    verdict = check(id, exercise.answer)
    assert verdict and verdict.message == exercise.praise
    assert exercise.wrong
    for wrong, hint in exercise.wrong:
        verdict = check(id, wrong)
        assert (verdict.status, verdict.message) == ("wrong", hint)
    hints = [hint for _, hint in exercise.wrong]
    assert len(set(hints)) == len(hints)
    if isinstance(exercise.answer, str):
        assert not any(exercise.answer.lower() in hint.lower() for hint in hints)


@pytest.mark.parametrize("id", EVERY)
def test_no_answer_and_nonsense(id):
    assert check(id, ...).status == check(id, None).status == "empty"
    verdict = check(id, "nonsense")
    assert verdict.status == "wrong" and verdict.message
    assert f"<b>{id}" in verdict._repr_html_()


def test_functions_that_do_nothing_or_fail():
    assert check("1.1", lambda *_: None).status == "empty"
    assert "raised TypeError" in check("1.1", lambda: 1).message
    assert "without calling" in check("1.1", torch.ones(2)).message


def test_an_unknown_exercise_is_no_wrong_answer():
    with pytest.raises(KeyError):
        check("1.99", 1)


def test_what_is_the_same():
    assert same("A cat ", "a cat") and not same(1.0, "1")
    assert same(1.00001, 1) and not same(1.1, 1)
    assert same(torch.ones(2), [1, 1]) is False  # a tensor is no list
    assert same([1, 2.0], (1, 2)) and not same([1], [1, 2])
    assert same(["b", "a"], {"a", "b"}) and not same("a", {"a"})
    assert not same(torch.ones(2), torch.ones(3)) and not same(object(), 1)
