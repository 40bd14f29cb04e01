"""What the Scores tab shows: each prediction as what it implies, and the line they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import torch
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.study.figures import channels, diverging
from esd_core.study.noise_predictions import Predictions
from ui.shared.pictures import img

NULL, CONCEPT, EDITED, CONTEXT, TARGET = (
    f"ε<sub>{name}</sub>" for name in ("null", "concept", "edited", "from", "target")
)
FROZEN = "frozen"


@dataclass(frozen=True)
class Scene:
    """What is looked at, and how it is called."""

    predictions: Predictions
    prompt: str
    seed: int
    eta: float
    guidance_scale: float
    updates: str | None  # of the edited model, "6 updates"; None if there is no erasure yet

    @property
    def name(self) -> str:
        """The prompt in HTML."""
        return f"“{escape(self.prompt)}”"

    @property
    def by(self) -> str:
        """The tag of what the edited model predicts."""
        return "frozen so far" if self.updates is None else "trained"

    @property
    def state(self) -> str:
        """Of the edited model."""
        if self.updates is None:
            return "not trained yet, so still the frozen model's"
        return f"after {self.updates}"

    @property
    def from_context(self) -> bool:
        """Whether the concept is erased from a context rather than altogether."""
        return not torch.equal(self.predictions.eps_centre, self.predictions.eps_null)

    @property
    def centre(self) -> str:
        """Where erasing counts from, in HTML."""
        return CONTEXT if self.from_context else NULL


class Panel(NamedTuple):
    """A heading, who made it, two captioned pictures `(3, H, W)`, a sentence in HTML."""

    title: str
    plain: str  # the heading for alternative text
    by: str
    pictures: tuple[tuple[str, Tensor], ...]
    says: str


def html(model: DiffusionModel, scene: Scene) -> str:
    """All panels."""
    return f'<div class="esd-scores">{"".join(_figure(p, scene) for p in panels(model, scene))}</div>'


def panels(model: DiffusionModel, scene: Scene) -> list[Panel]:
    """x_t, the predictions with what they imply, and the difference."""
    p, listed = scene.predictions, [*_one_by_one(scene), *_guided(scene)]
    latents = [p.x_t, *(p.x_0(eps) for *_, eps, _ in listed)]
    noisy, *drawn = model.decode(torch.cat(latents))
    size = p.difference[0].norm(dim=0)
    most = float(size.quantile(0.98)) * max(1.0, abs(scene.eta))  # but for outliers
    shown = []
    for (title, plain, by, eps, says), picture in zip(listed, drawn, strict=True):
        lean = diverging(p.towards_concept(eps), most)
        shown.append(Panel(title, plain, by, (("implied picture", picture), ("lean", lean)), says))
    first = Panel(
        "<i>x<sub>t</sub></i>",
        "x_t",
        FROZEN,
        (("decoded", noisy), (NULL, channels(p.eps_null[0]))),
        f"The noisy latent that all predictions are about, and beside it {NULL} itself, three of "
        "its channels as red, green and blue: a prediction is noise.",
    )
    change = ((drawn[1] - drawn[0]) / 2 + 0.5, diverging(size, most))
    difference = Panel(
        f"{CONCEPT} − {NULL}",
        "difference",
        FROZEN,
        (("change", change[0]), ("size", change[1])),
        "What the words add. Grey in the picture is no change; red in the map is a large one.",
    )
    return [first, *shown[:2], difference, *shown[2:]]


Prediction = tuple[str, str, str, Tensor, str]  # title, plain title, by, eps, sentence


def _one_by_one(scene: Scene) -> list[Prediction]:
    """What the loss of erasing is made of."""
    p, centre = scene.predictions, scene.centre
    words = "what the concept is erased from" if scene.from_context else "the same words"
    listed = [
        (NULL, "eps_null", FROZEN, p.eps_null, "The noise the frozen model sees when it is told nothing."),
        (CONCEPT, "eps_concept", FROZEN, p.eps_concept, f"The same when it is told {scene.name}."),
    ]
    if scene.from_context:
        says = f"The same when it is told what {scene.name} is erased from."
        listed.append((CONTEXT, "eps_from", FROZEN, p.eps_centre, says))
    return [
        *listed,
        (
            TARGET,
            "target",
            FROZEN,
            p.target,
            f"{centre} − η × the difference, η = {scene.eta:g}: the other side of {centre}. "
            "Arithmetic on what the frozen model says.",
        ),
        (
            EDITED,
            "eps_edited",
            scene.by,
            p.eps_edited,
            f"The edited model's answer to {words}, {scene.state}. Training pulls it to the target.",
        ),
    ]


def _guided(scene: Scene) -> list[Prediction]:
    """What a sampler would follow from here."""
    frozen, edited = scene.predictions.guided(scene.guidance_scale)
    title, w = "guided", f"{scene.guidance_scale:g}"
    goal = f"{NULL} + w ({CONTEXT} − {NULL})" if scene.from_context else NULL
    return [
        (
            title,
            "guided prediction",
            FROZEN,
            frozen,
            f"{NULL} + w × the difference, w = {w}: what a sampler follows from here.",
        ),
        (
            title,
            "guided prediction of the edited model",
            scene.by,
            edited,
            f"The same, of the edited model's own two predictions. On target and with {NULL} unmoved "
            f"it is {goal} − w η × the difference.",
        ),
    ]


def _figure(panel: Panel, scene: Scene) -> str:
    seen = f"{panel.plain}, {panel.by}, {scene.prompt}, seed {scene.seed}, t {scene.predictions.t}"
    if panel.by == scene.by:
        seen += f", {scene.state}"
    pairs = "".join(
        f'<div class="esd-{"map" if i else "implied"}">{img(picture, _alt(caption, seen))}'
        f"<small>{caption}</small></div>"
        for i, (caption, picture) in enumerate(panel.pictures)
    )
    tag = "esd-frozen" if panel.by.startswith("frozen") else "esd-trained"
    return (
        f"<figure><figcaption><h2><span>{panel.title}</span> "
        f'<span class="esd-tag {tag}">{panel.by}</span></h2>'
        f'</figcaption><div class="esd-pair">{pairs}</div><p>{panel.says}</p></figure>'
    )


def _alt(caption: str, seen: str) -> str:
    return f"{'eps_null itself' if caption == NULL else caption} of {seen}"


def line(scene: Scene) -> str:
    """Where the predictions lie along the difference, drawn to scale."""
    p = scene.predictions
    marks = [
        (CONCEPT, p.position(p.eps_concept), ""),
        (NULL, p.position(p.eps_null), ""),
        (TARGET, p.position(p.target), ""),
        (EDITED, p.position(p.eps_edited), "esd-trained"),
    ]
    if scene.from_context:
        marks.insert(2, (CONTEXT, 0.0, ""))
    low, high = min(x for _, x, _ in marks), max(x for _, x, _ in marks)
    spread = max(high - low, 1e-6)
    rows = "".join(
        f'<li class="{kind}"><span>{name} <b>{_number(x)}</b></span>'
        f'<div><i style="left:{(x - low) / spread:.2%}"></i></div></li>'
        for name, x, kind in marks
    )
    return f'<ul class="esd-line">{rows}</ul>'


ROWS: Sequence[tuple[str, str, str]] = (
    (NULL, "eps_null", FROZEN),
    (CONCEPT, "eps_concept", FROZEN),
    (TARGET, "target", FROZEN),
    (EDITED, "eps_edited", ""),
    (f"{CONCEPT} − {NULL}", "difference", FROZEN),
)


def table(scene: Scene) -> str:
    """Sizes, positions, cosines, distances."""
    measures = scene.predictions.measures()
    columns = {"size": "size", "cosine": "cosine", "position": "position", "to_target": "to target"}
    heads = "".join(f'<th scope="col">{text}</th>' for text in columns.values())
    rows = []
    for name, key, by in ROWS:
        cells = "".join(f"<td>{_number(measures[key].get(column))}</td>" for column in columns)
        tag = f"<small>{by or scene.by}</small>"
        rows.append(f'<tr><th scope="row">{name} {tag}</th>{cells}</tr>')
    return (
        f'<table class="esd-numbers"><thead><tr><td></td>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _number(value: float | None) -> str:
    """Three decimals, a true minus, no minus zero."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")
