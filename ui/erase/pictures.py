"""The pictures of a run: how they are drawn, before and after side by side, and a film between.

They take few steps and the same seeds before and after. The frozen model's are kept: it never changes, so
nobody waits for the same ones twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from html import escape
from typing import Any, TypeVar

from diffusers import UNet2DConditionModel
from markupsafe import Markup
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.sampling import generating
from esd_core.study.watched_prompts import Watched
from ui.shared import markup

SEEDS = (1, 2)
# Eight steps of this solver look like twenty of DDIM.
STEPS = 8
SAMPLING: dict[str, Any] = dict(num_inference_steps=STEPS, scheduler="dpm++", guidance_scale=4.0)
RUNS = 4  # whose pictures of the frozen model are kept
T = TypeVar("T")
FROZEN: dict[Hashable, Tensor] = {}  # the one unused for longest first
FRAMES = 8  # at most; a longer run keeps every other one and goes on half as often
SHARE = 0.8  # a frame may take this much of the training time since the one before
LARGEST = 128  # pixels a side of a frame
BEFORE = -1  # the frozen model's place in a film; at 0 is what was solved for


def draw(
    model: DiffusionModel,
    unet: UNet2DConditionModel,
    prompts: Sequence[str],
    seeds: Sequence[int],
    show: Callable[[int], T],
) -> Generator[T, None, Tensor]:
    """Pictures `(prompts, seeds, 3, H, W)` in [0, 1]; yields `show(n)` after the nth step.

    The frozen model's come at once if they are known.
    """
    if unet is model.unet and (drawn := known(model, prompts, seeds)) is not None:
        return drawn
    listed = [prompt for prompt in prompts for _ in seeds]
    made = yield from generating(
        model, listed, lambda step: show(step.step + 1), seeds=[*seeds] * len(prompts), unet=unet, **SAMPLING
    )
    drawn = made.unflatten(0, (len(prompts), len(seeds)))
    if unet is model.unet:
        FROZEN[_key(model, prompts, seeds)] = drawn
        for oldest in [*FROZEN][:-RUNS]:
            del FROZEN[oldest]
    return drawn


def known(model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int] = SEEDS) -> Tensor | None:
    """The frozen model's pictures, if they were drawn for one of the last runs."""
    key = _key(model, prompts, seeds)
    if (drawn := FROZEN.pop(key, None)) is not None:
        FROZEN[key] = drawn
    return drawn


def _key(model: DiffusionModel, prompts: Sequence[str], seeds: Sequence[int]) -> Hashable:
    return model.fingerprint, model.prediction_type, tuple(prompts), tuple(seeds)


def reached(update: int) -> str:
    """How far the model is that drew a picture."""
    return {BEFORE: "before", 0: "after the edit"}.get(update, f"after {update} updates")


def strip(
    prompts: Sequence[Watched],
    seeds: Sequence[int],
    before: Tensor | None = None,
    now: Tensor | None = None,
    updates: int = 0,
) -> str:
    """Before above, now below, from the same noise; a block per prompt.

    Args:
        before: pictures `(prompts, seeds, 3, H, W)` of the frozen model; None draws blanks.
        now: the same of the edited model after `updates` updates, maybe of the first seeds only.
    """
    blocks = []
    for i, item in enumerate(prompts):
        rows = ""
        for state, drawn in (("before", before), ("after" if now is None else reached(updates), now)):
            cells = ['<span class="esd-blank"></span>'] * len(seeds)
            for j, picture in enumerate(() if drawn is None else drawn[i]):
                cells[j] = markup.img(picture, _alt(item, seeds[j], state))
            grid = f'<div class="esd-pictures" style="--columns:{len(seeds)}">{"".join(cells)}</div>'
            rows += f"<figure><figcaption>{state}</figcaption>{grid}</figure>"
        head = f"<h2>{markup.quoted(item.prompt)} <small>{escape(item.role)}</small></h2>"
        blocks.append(f'<section class="esd-block">{head}<div>{rows}</div></section>')
    return f'<div class="esd-strip">{"".join(blocks)}</div>'


def _alt(item: Watched, seed: int, state: str) -> str:
    return f"{item.prompt or 'the empty prompt'}, seed {seed}, {state}"


class Film:
    """Frames at equal distances, however long the run is: the same noise before, after k, 2k, ... updates.

    Each frame holds an `<img>` per prompt, not its pixels, so that a visitor's film stays small.
    """

    def __init__(self, prompts: Sequence[Watched], seed: int, iterations: int) -> None:
        self.prompts, self.seed, self.iterations = prompts, seed, iterations
        self.every = max(1, min(4, iterations // 4))
        self.frames: dict[int, list[Markup]] = {}

    def due(self, update: int, update_seconds: float, frame_seconds: float) -> bool:
        """Whether to draw a frame now. The distance doubles until frames are cheap beside it, and the
        last frame, which comes at the end in any case, has none near it."""
        while update % self.every == 0 and self.every * update_seconds < SHARE * frame_seconds:
            self.every *= 2
        near = self.iterations - update < self.every / 2
        return update > 0 and update % self.every == 0 and not near

    def left(self, updates: int) -> float:
        """About how many frames so many updates draw: a long film thins out."""
        return min(updates / self.every, 1.5 * FRAMES)

    def add(self, update: int, drawn: Tensor) -> None:
        """Keep the pictures `(prompts, seeds, 3, H, W)` after an update; the first seed's is shown."""
        state = reached(update)
        self.frames[update] = [
            markup.img(own[0], _alt(item, self.seed, state), LARGEST)
            for item, own in zip(self.prompts, drawn, strict=True)
        ]
        while len(self.frames) > FRAMES:  # this one may stand between two, and stays
            self.every *= 2
            self.frames = {
                i: f for i, f in self.frames.items() if i % self.every == 0 or i in (BEFORE, update)
            }

    def forget_after(self, update: int) -> None:
        """Drop what a run did between its last checkpoint and its stop."""
        self.frames = {i: frame for i, frame in self.frames.items() if i <= update}

    def html(self) -> str:
        """A table: a column per frame, a row per prompt; it scrolls where it does not fit."""
        head = ["updates", *(reached(update) if update <= 0 else str(update) for update in self.frames)]
        name = Markup("{}<small>{}</small>").format
        rows = [
            (name(markup.quoted(item.prompt), item.role), *drawn)
            for item, *drawn in zip(self.prompts, *self.frames.values(), strict=True)
        ]
        return (
            f'<h2 class="esd-film-title">Update by update <small>seed {self.seed}</small></h2>'
            '<div class="esd-film" role="region" tabindex="0" aria-label="Film strip">'
            f"{markup.table(head, rows, 'Pictures after so many updates')}</div>"
        )
