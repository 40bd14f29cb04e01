"""A widget that erases while you watch: loss, held-out error and pictures from the same noise."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
import torch
from PIL import Image

from esd_core import DivergenceError, EraseConfig, EraseStep, Erasure, erase, generate, preset
from esd_core.erasing import Examples
from esd_core.models import DiffusionModel
from esd_core.study import figures
from lab.controls import OWN_SIZE, png

CROSS = ("esd-x", "esd-x-strict")  # few weights; the other methods change many, in smaller steps


def live_config(concept: str, method: str, eta: float, updates: int) -> EraseConfig:
    """The `live` preset's options; much smaller steps outside cross-attention."""
    smaller = {} if method in CROSS else {"learning_rate": 1e-4}
    return preset("live", concept, train_method=method, eta=eta, iterations=updates, **smaller)


def stacked(*pictures: Image.Image) -> Image.Image:
    """Pictures below each other on white."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    y = 0
    for picture in pictures:
        canvas.paste(picture, (0, y))
        y += picture.height
    return canvas


class LiveErasure(widgets.VBox):
    """Choose, press Run, watch; or `run()` from code.

    `erasure` is what was learned by the latest picture.

    The kernel is busy during a run. Its interrupt button (the square) stops it and keeps that.
    Runs of one concept share their examples: these depend on neither method nor eta.

    Args:
        model: the frozen model.
        knobs: widgets named concept, method, eta and updates.
        watch: from a concept to the prompts to draw; the concept's own comes first.
        every: updates between pictures.
    """

    def __init__(
        self,
        model: DiffusionModel,
        knobs: dict[str, widgets.Widget],
        watch: Callable[[str], Sequence[str]],
        *,
        every: int = 4,
        seed: int = 3,
        steps: int = 12,
    ) -> None:
        self.model, self.knobs, self._watch, self._every = model, knobs, watch, every
        self._seed, self._steps = seed, steps
        self.kept: dict[str, tuple[Examples, torch.Tensor]] = {}  # by concept, with the pictures before
        self.erasure: Erasure | None = None
        self.losses: list[float] = []
        self.errors: list[tuple[int, float]] = []
        self.image = widgets.Image(format="png", layout=widgets.Layout(**OWN_SIZE))
        self.caption = widgets.HTML("<small>Nothing erased yet: press Run.</small>")
        self.button = widgets.Button(description="Run", button_style="primary")
        self.button.on_click(lambda _: self.run())
        for name, knob in knobs.items():
            knob.description = knob.description or name
        super().__init__([widgets.VBox([*knobs.values(), self.button]), self.image, self.caption])

    @property
    def config(self) -> EraseConfig:
        """What a run with the present knobs would do."""
        return live_config(**{name: knob.value for name, knob in self.knobs.items()})

    @property
    def prompts(self) -> list[str]:
        """What is drawn for the present concept."""
        return list(self._watch(self.knobs["concept"].value))

    def run(self) -> None:
        """Erase with the present knobs, showing pictures on the way."""
        config = self.config
        concept = config.concepts[0].concept
        self.erasure, self.losses, self.errors = None, [], []
        self.button.disabled = True
        if concept in self.kept:
            examples, frozen = self.kept[concept]
        else:
            examples, frozen = None, self._draw(None)
        end = "Done"
        try:
            for step in erase(self.model, config, examples=examples):
                self.kept[concept] = (step.examples, frozen)
                self._take(step, frozen, config.iterations)
        except KeyboardInterrupt:
            end = "Stopped"
        except DivergenceError as error:
            self.erasure, end = error.erasure, f"Stopped, {error}"
        finally:
            self.button.disabled = False
        self._say(f"{end} after {len(self.losses)} updates of {config.train_method}")

    def _take(self, step: EraseStep, frozen: torch.Tensor, last: int) -> None:
        if step.loss is not None:
            self.losses.append(step.loss)
        if step.iteration % self._every and step.iteration != last:
            return
        self.erasure = step.erasure
        self.errors.append((step.iteration, step.held_out_error() or 0.0))
        both = torch.stack([frozen, self._draw(step.unet)])
        title = f"seed {self._seed} in every picture; frozen, and edited after {step.iteration}"
        sheet = figures.sheet(both, ["frozen", "edited"], self.prompts, title=title)
        plot = Image.open(io.BytesIO(png(figures.loss_figure(self.losses, self.errors))))
        self._say(f"Update {step.iteration}, {step.seconds:.1f} s")
        self.image.value = png(stacked(plot.convert("RGB"), sheet))

    def _draw(self, unet: Any) -> torch.Tensor:
        seeds = [self._seed] * len(self.prompts)
        return generate(self.model, self.prompts, seeds=seeds, unet=unet, num_inference_steps=self._steps)

    def _say(self, text: str) -> None:
        self.caption.value = f"<small>{escape(text)}.</small>"

    @property
    def alt(self) -> str:
        """The description of the present picture."""
        names = ", ".join(self.prompts)
        return f"Loss, held-out error, and pictures of {names} by the frozen and the edited model"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        bundle = widgets.VBox._repr_mimebundle_(self, **options)
        data = bundle[0] if isinstance(bundle, tuple) else (bundle or {})
        if not self.image.value:
            return {**data, "text/html": self.caption.value}, {}
        still = base64.b64encode(self.image.value).decode()
        return {**data, "image/png": still}, {"image/png": {"alt": self.alt}}
