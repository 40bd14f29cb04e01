"""Strict dataclasses: fields that are declared once, and checked and described from their declaration.

A field's annotation says what it may be, the string below it what it means. `options` tells both to whoever
asks in its own way: the command line, the app's forms, a table of columns.
"""

from __future__ import annotations

from functools import cache, wraps
from typing import Any, Literal, NamedTuple, TypeVar, dataclass_transform, get_args, get_origin

from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

T = TypeVar("T")
UNBOUNDED = (float("-inf"), float("inf"))


class Option(NamedTuple):
    """A field of a `strict` dataclass as it is declared, or something else to be chosen."""

    kind: Any  # bool, int, float or str; tuple for a list of texts
    help: str
    default: Any = None
    bounds: tuple[float, float] = UNBOUNDED  # inclusive
    choices: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        """What values are accepted, as in "use ..."."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        plain = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        plain[tuple] = "a list of texts"
        span = f" from {self.bounds[0]:g} to {self.bounds[1]:.10g}" if self.bounds != UNBOUNDED else ""
        return plain.get(self.kind, "another value") + span


@cache
def options(declared: Any) -> dict[str, Option]:  # noqa: ANN401
    """The fields of a `strict` dataclass by name."""
    return {name: _option(field) for name, field in declared.__pydantic_fields__.items()}


def _option(field: Any) -> Option:  # noqa: ANN401
    parts, origin = get_args(field.annotation), get_origin(field.annotation)
    choices = parts if origin is Literal else (field.json_schema_extra or {}).get("choices", ())
    kind: Any = str if choices else next(iter(parts), field.annotation)
    if origin is tuple and kind is str:
        kind = tuple
    limits = [getattr(m, key) for key in ("ge", "le") for m in field.metadata if hasattr(m, key)]
    bounds = (limits[0], limits[1]) if limits else UNBOUNDED
    return Option(kind, " ".join((field.description or "").split()), field.default, bounds, choices)


def within(bounds: tuple[float, float]) -> Any:  # noqa: ANN401
    """The annotation of a number with inclusive bounds."""
    return Field(ge=bounds[0], le=bounds[1])


@dataclass_transform(frozen_default=True)
def strict(declared: type[T]) -> type[T]:
    """A frozen dataclass whose values are checked by their annotations and described by the strings
    below them. What is refused is a ValueError of one sentence."""
    how = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)
    made: Any = dataclass(frozen=True, config=how)(declared)
    check = made.__init__

    @wraps(check)
    def __init__(self: T, /, *values: Any, **named: Any) -> None:  # noqa: ANN401
        known = options(made)
        if unknown := next((name for name in named if name not in known), None):
            raise ValueError(f"unknown option {unknown[:80]!r}; use any of: {', '.join(known)}")
        try:
            check(self, *values, **named)
        except ValidationError as error:
            raise ValueError(_refusal(made, error.errors()[0])) from None

    made.__init__ = __init__
    return made


def _refusal(declared: type, error: Any) -> str:  # noqa: ANN401
    if error["type"] == "value_error":  # raised by a check of our own
        return str(error["ctx"]["error"])
    place = error["loc"][0]  # of a value given by position, or its name
    name = list(options(declared))[place] if isinstance(place, int) else str(place)
    if error["type"] == "missing":
        return f"{name} is missing"
    given = repr(error["input"])
    given = given if len(given) <= 200 else f"{given[:200]}…"
    if error["type"] == "greater_than":
        return f"{name} is {given}; use a number above {error['ctx']['gt']:g}"
    return f"{name} is {given}; use {options(declared)[name].wanted}"


def as_tuple(values: Any) -> Any:  # noqa: ANN401
    """A list as a tuple and a text as one of one; anything else is left for the check."""
    return (values,) if isinstance(values, str) else tuple(values) if isinstance(values, list) else values
