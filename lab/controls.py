"""Widgets: a question, a picture that waits for its answer, and a picture with knobs.

Base ipywidgets only. Pictures are PNG bytes in one `Image`, redrawn when a knob comes to rest. Each
widget also offers a plain picture or text in the same output, which is what a page without a
running kernel shows. Everything works without a browser: set `.value` and read the result.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import ipywidgets as widgets
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

Drawing = Figure | Image.Image
OWN_SIZE = {"max_width": "100%", "align_self": "flex-start"}  # a box would stretch it
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def png(drawing: Drawing) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    if isinstance(drawing, Figure):
        FigureCanvasAgg(drawing)
        drawing.savefig(buffer, format="png", dpi=100)
    else:
        drawing.save(buffer, format="png")
    return buffer.getvalue()


class Picture:
    """A drawing with a description for who cannot see it: `Picture(figure, "what it shows")`."""

    def __init__(self, drawing: Drawing, alt: str) -> None:
        self.drawing, self.alt, self.data = drawing, alt, png(drawing)

    def __repr__(self) -> str:
        return f"<picture: {self.alt}>"

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        data = {"image/png": base64.b64encode(self.data).decode(), "text/plain": repr(self)}
        return data, {"image/png": {"alt": self.alt}}


class Predict(widgets.VBox):
    """Choose before you see: a question with a few answers, none chosen at first.

    Read the choice from `value` (None until there is one) or hand the widget itself to `check`.
    """

    def __init__(self, question: str, choices: Sequence[str]) -> None:
        self.question, self.choices = question, tuple(choices)
        self._radio = widgets.RadioButtons(
            options=self.choices, value=None, layout=widgets.Layout(width="max-content")
        )
        self.note = widgets.HTML()
        self._radio.observe(self._noted, names="value")
        super().__init__([widgets.HTML(f"<b>{escape(question)}</b>"), self._radio, self.note])

    @property
    def value(self) -> str | None:
        return self._radio.value

    def choose(self, answer: str) -> None:
        """As if clicked."""
        self._radio.value = answer

    def when_chosen(self, then: Callable[[], None]) -> None:
        """Call `then` at the first choice; at once if there is one already."""
        if self.value is not None:
            then()
            return

        def once(_: Any) -> None:
            self._radio.unobserve(once, names="value")
            then()

        self._radio.observe(once, names="value")

    def _noted(self, _: Any) -> None:
        self.note.value = "Noted. Go on below and see whether you were right."

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        items = "".join(f"<li>{escape(choice)}</li>" for choice in self.choices)
        plain = f"<b>{escape(self.question)}</b><ul>{items}</ul>"
        return {**_view(self, options), "text/html": plain}


class Explorer(widgets.VBox):
    """A picture with knobs: `Explorer(draw, alt, eta=slider(1, 0, 3, 0.25), t=...)`.

    Args:
        draw: called with every knob's value by name; returns a figure or PIL image.
        alt: what the picture shows; knob names in braces are filled in ("guidance {scale}").
        run: redraw on a button rather than on every change; for drawings over a second.
        knobs: widgets with a `value`, in the order they are shown.
    """

    def __init__(self, draw: Callable[..., Drawing], alt: str, *, run: bool = False, **knobs: Any) -> None:
        self._draw, self._alt, self.knobs = draw, alt, knobs
        self.image = widgets.Image(format="png", layout=widgets.Layout(**OWN_SIZE))
        self.caption = widgets.HTML()
        for name, knob in knobs.items():
            knob.description = knob.description or name
            if not run:
                knob.observe(self._changed, names="value")
        self.button = widgets.Button(description="Run", button_style="primary")
        self.button.on_click(self._changed)
        shown = [*knobs.values(), *([self.button] if run else [])]
        super().__init__([widgets.VBox(shown), self.image, self.caption])
        self.redraw()

    @property
    def values(self) -> dict[str, Any]:
        """The knobs' present values; a browser's 1.2500000000000002 is 1.25."""
        read = {name: knob.value for name, knob in self.knobs.items()}
        return {name: round(v, 9) if isinstance(v, float) else v for name, v in read.items()}

    @property
    def alt(self) -> str:
        """The description of the present picture."""
        return self._alt.format(**self.values)

    def _changed(self, _: Any) -> None:
        self.redraw()

    def redraw(self) -> None:
        """Draw for the present values."""
        self.image.value = png(self._draw(**self.values))
        self.caption.value = f"<small>{escape(self.alt)}</small>"

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        still = base64.b64encode(self.image.value).decode()
        return {**_view(self, options), "image/png": still}, {"image/png": {"alt": self.alt}}


class Reveal(widgets.VBox):
    """What a prediction is about, hidden until there is one: `Reveal(prediction, Picture(...))`.

    Args:
        prediction: whose first choice opens it; the choice may still be changed afterwards.
        content: a `Picture` or an `Explorer`.
    """

    WAITING = "Predict first: choose an answer above, and the picture appears here."

    def __init__(self, prediction: Predict, content: Picture | Explorer) -> None:
        self.content = content
        super().__init__([widgets.HTML(f"<i>{self.WAITING}</i>")])
        prediction.when_chosen(self._open)

    @property
    def opened(self) -> bool:
        """Whether the picture is shown."""
        return len(self.children) > 1 or isinstance(self.children[0], Explorer)

    def _open(self) -> None:
        if isinstance(self.content, Explorer):
            self.children = (self.content,)
            return
        layout = widgets.Layout(**OWN_SIZE)
        image = widgets.Image(value=self.content.data, format="png", layout=layout)
        self.children = (image, widgets.HTML(f"<small>{escape(self.content.alt)}</small>"))

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        if not self.opened:
            return {**_view(self, options), "text/html": f"<i>{self.WAITING}</i>"}, {}
        plain, metadata = self.content._repr_mimebundle_()
        return {**plain, **_view(self, options)}, metadata


def _view(box: widgets.VBox, options: dict[str, Any]) -> dict[str, Any]:
    """What ipywidgets itself shows."""
    bundle = widgets.VBox._repr_mimebundle_(box, **options)
    return bundle[0] if isinstance(bundle, tuple) else (bundle or {})


def slider(value: float, low: float, high: float, step: float, label: str = "") -> widgets.Widget:
    """A slider that reports when it is let go; of whole numbers if all four are whole."""
    whole = all(isinstance(number, int) for number in (value, low, high, step))
    make = widgets.IntSlider if whole else widgets.FloatSlider
    return make(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        continuous_update=False,
        style={"description_width": "initial"},
        layout=widgets.Layout(width="420px"),
    )


def choice(options: Sequence[Any], value: Any = None, label: str = "") -> widgets.Widget:
    """One of a few, from a list."""
    return widgets.Dropdown(
        options=list(options),
        value=options[0] if value is None else value,
        description=label,
        style={"description_width": "initial"},
    )
