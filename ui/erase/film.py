"""The film strip of a run: the same noise after 0, k, 2k, ... updates, a row per prompt."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup
from torch import Tensor

from esd_core.study.watched_prompts import Watched
from ui.shared import pictures, tables

FRAMES = 8  # at most; a longer run keeps every other one and goes on half as often
SHARE = 0.8  # a frame may take this much of the training time since the one before
LARGEST = 128  # pixels a side of a frame


class Film:
    """Frames at equal distances, however long the run is.

    Each frame holds an `<img>` per prompt, not its pixels, so that a visitor's film stays small.
    """

    def __init__(self, prompts: Sequence[Watched], seed: int, iterations: int) -> None:
        self.prompts, self.seed, self.iterations = prompts, seed, iterations
        self.every = max(1, min(4, iterations // 4))
        self.frames: dict[int, list[Markup]] = {}

    @property
    def wanted(self) -> list[str]:
        """The prompts to draw."""
        return [item.prompt for item in self.prompts]

    def due(self, update: int, update_seconds: float, frame_seconds: float) -> bool:
        """Whether to draw a frame now. The distance doubles until frames are cheap beside it, and the
        last frame, which comes at the end in any case, has none near it."""
        while update % self.every == 0 and self.every * update_seconds < SHARE * frame_seconds:
            self.every *= 2
        near = self.iterations - update < self.every / 2
        return update > 0 and update % self.every == 0 and not near

    def add(self, update: int, drawn: Tensor) -> None:
        """Keep the pictures `(prompts, seeds, 3, H, W)` of one moment; the first seed's is shown."""
        state = f"after {update} updates" if update else "before"
        self.frames[update] = [
            pictures.img(own[0], f"{item.prompt or 'no words'}, seed {self.seed}, {state}", LARGEST)
            for item, own in zip(self.prompts, drawn, strict=True)
        ]
        self.thin_out(update)

    def thin_out(self, last: int) -> None:
        """Keep every other frame, and the last, which may stand between two, as often as needed."""
        while len(self.frames) > FRAMES:
            self.every *= 2
            self.frames = {i: f for i, f in self.frames.items() if i % self.every == 0 or i == last}

    def forget_after(self, update: int) -> None:
        """Drop what a run did between its last checkpoint and its stop."""
        self.frames = {i: frame for i, frame in self.frames.items() if i <= update}

    def html(self) -> str:
        """A table: a column per moment, a row per prompt; it scrolls where it does not fit."""
        head = ["updates", *(str(update or "before") for update in self.frames)]
        name = Markup("{}<small>{}</small>").format
        rows = [
            (name(pictures.quoted(item.prompt), item.role), *drawn)
            for item, *drawn in zip(self.prompts, *self.frames.values(), strict=True)
        ]
        return (
            f'<h2 class="esd-film-title">Update by update <small>seed {self.seed}</small></h2>'
            '<div class="esd-film" role="region" tabindex="0" aria-label="Film strip">'
            f"{tables.table(head, rows, 'Pictures after so many updates')}</div>"
        )
