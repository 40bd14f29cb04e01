"""What a model was taught to draw, if it says so: `concepts.json` beside its weights.

The embedded model knows a closed set of objects, styles and backgrounds; Stable Diffusion has no
such list (`load` then gives None).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

Kind = Literal["object", "style", "background"]


@dataclass(frozen=True)
class Concept:
    """One thing the model was taught: `phrase` is the prompt that draws it alone."""

    name: str  # "cat"
    phrase: str  # "a cat"
    kind: Kind
    category: str  # "animals"; for styles and backgrounds their kind


def joined(concepts: Sequence[Concept]) -> str:
    """One prompt for an object, a style and a background, each of which may be left out."""
    joints = {"object": "", "style": " in ", "background": " on "}
    return "".join((joints[c.kind] if i else "") + c.phrase for i, c in enumerate(concepts))


@dataclass(frozen=True)
class Vocabulary:
    """All concepts of a model and every word that occurred in its training captions."""

    concepts: tuple[Concept, ...]
    words: frozenset[str]

    @classmethod
    def load(cls, path: Path) -> Vocabulary | None:
        """Read `concepts.json`; None if there is none."""
        if not path.exists():
            return None
        raw = json.loads(path.read_text())
        return cls(tuple(Concept(**c) for c in raw["concepts"]), frozenset(raw["words"]))

    @classmethod
    def of_labels(cls, phrases: Sequence[str]) -> Vocabulary:
        """Objects by their phrases ("a church"), for a model that came with no list. ValueError if there are
        fewer than two different ones, so that nothing can be told apart."""
        named = dict.fromkeys(p.strip().lower() for p in phrases if p.strip())
        if len(named) < 2:
            raise ValueError(f"labels are {list(named)}; give two or more, such as 'a church'")
        names = {p: re.sub(r"^(an?|the) ", "", p) for p in named}
        concepts = tuple(Concept(name, p, "object", "label") for p, name in names.items())
        return cls(concepts, frozenset())

    def of_kind(self, kind: Kind) -> tuple[Concept, ...]:
        """The concepts of one kind, in training order."""
        return tuple(c for c in self.concepts if c.kind == kind)

    def captions(self, of: Concept | None = None) -> tuple[str, ...]:
        """Every prompt of an object alone or in a style, of a style and of a background, and the empty
        prompt; or those that name one concept."""
        objects, styles = self.of_kind("object"), self.of_kind("style")
        named = [(), *((c,) for c in self.concepts), *product(objects, styles)]
        return tuple(joined(concepts) for concepts in named if of is None or of in concepts)

    def find(self, text: str) -> Concept | None:
        """The concept whose name or phrase `text` is, ignoring case and outer space."""
        wanted = text.strip().lower()
        return next((c for c in self.concepts if wanted in (c.name, c.phrase)), None)

    def unknown_words(self, prompt: str) -> list[str]:
        """The words of `prompt` that no training caption contained, in order, once each."""
        words = re.findall(r"[^\W\d_]+|\d", prompt.lower())
        return [w for w in dict.fromkeys(words) if w not in self.words]
