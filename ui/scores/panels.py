"""What the Scores tab shows: each prediction as what it implies, and the line they lie on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from markupsafe import Markup
from torch import Tensor

from esd_core import DiffusionModel
from esd_core.study.figures import channels, diverging
from esd_core.study.noise_predictions import Predictions
from ui.shared.markup import img, quoted, table

NULL, CONCEPT, EDITED, CONTEXT, TARGET = (
    f"ε<sub>{name}</sub>" for name in ("null", "concept", "edited", "from", "target")
)
DIFFERENCE = f"{CONCEPT} − {NULL}"
FROZEN = "frozen"


@dataclass(frozen=True)
class LabelledPredictions:
    """Predictions at one x_t, and what the page says of them."""

    predictions: Predictions
    prompt: str
    seed: int
    eta: float
    guidance_scale: float
    by: str = "frozen so far"  # the tag of what the edited model predicts
    state: str = "not trained yet, so still the frozen model's"  # of the edited model

    @property
    def from_context(self) -> bool:
        """Whether the concept is erased from a context rather than altogether."""
        return not torch.equal(self.predictions.eps_centre, self.predictions.eps_null)

    @property
    def centre(self) -> str:
        """Where erasing counts from, in HTML."""
        return CONTEXT if self.from_context else NULL


class Prediction(NamedTuple):
    """What one panel is about."""

    title: str  # HTML
    name: str  # the title in plain text
    by: str  # the model's tag
    eps: Tensor  # the latent itself
    says: str  # HTML


def predicted(seen: LabelledPredictions) -> Iterator[Prediction]:
    """What the loss of erasing is made of, then what a sampler would follow from here."""
    p, centre, name, by = seen.predictions, seen.centre, quoted(seen.prompt), seen.by
    words = "what the concept is erased from" if seen.from_context else "the same words"
    nothing = "The noise the frozen model sees when it is told nothing."
    yield Prediction(NULL, "eps_null", FROZEN, p.eps_null, nothing)
    yield Prediction(CONCEPT, "eps_concept", FROZEN, p.eps_concept, f"The same when it is told {name}.")
    if seen.from_context:
        context = f"The same when it is told what {name} is erased from."
        yield Prediction(CONTEXT, "eps_from", FROZEN, p.eps_centre, context)
    target = (
        f"{centre} − η × the difference, η = {seen.eta:g}: the other side of {centre}. "
        "Arithmetic on what the frozen model says."
    )
    yield Prediction(TARGET, "target", FROZEN, p.target, target)
    answer = f"The edited model's answer to {words}, {seen.state}. Training pulls it to the target."
    yield Prediction(EDITED, "eps_edited", by, p.eps_edited, answer)
    frozen, edited = p.guided(seen.guidance_scale)
    formula = f"{NULL} + w × the difference, w = {seen.guidance_scale:g}: what a sampler follows from here."
    yield Prediction("guided", "guided prediction", FROZEN, frozen, formula)
    goal = f"{NULL} + w ({CONTEXT} − {NULL})" if seen.from_context else NULL
    own = (
        f"The same, of the edited model's own two predictions. On target and with {NULL} unmoved "
        f"it is {goal} − w η × the difference."
    )
    yield Prediction("guided", "guided prediction of the edited model", by, edited, own)


def html(model: DiffusionModel, seen: LabelledPredictions) -> str:
    """A figure for x_t, for each prediction with what it implies, and for the difference."""
    p, listed = seen.predictions, list(predicted(seen))
    noisy, *implied = model.decode(torch.cat([p.x_t, *(p.x_0(one.eps) for one in listed)]))
    size = p.difference[0].norm(dim=0)
    largest = float(size.quantile(0.98)) * max(1.0, abs(seen.eta))  # but for outliers
    leans = (diverging(p.towards_concept(one.eps), largest) for one in listed)
    figures = [
        _figure(seen, one, {"implied picture": picture, "lean": lean})
        for one, picture, lean in zip(listed, implied, leans, strict=True)
    ]
    noise = (
        f"The noisy latent that all predictions are about, and beside it {NULL} itself, three of "
        "its channels as red, green and blue: a prediction is noise."
    )
    first = Prediction("<i>x<sub>t</sub></i>", "x_t", FROZEN, p.x_t, noise)
    added = "What the words add. Grey in the picture is no change; red in the map is a large one."
    difference = Prediction(DIFFERENCE, "difference", FROZEN, p.difference, added)
    change = (implied[1] - implied[0]) / 2 + 0.5
    figures.insert(2, _figure(seen, difference, {"change": change, "size": diverging(size, largest)}))
    figures.insert(0, _figure(seen, first, {"decoded": noisy, NULL: channels(p.eps_null[0])}))
    return f'<div class="esd-scores">{"".join(figures)}</div>'


def _figure(seen: LabelledPredictions, one: Prediction, shown: dict[str, Tensor]) -> str:
    """Two captioned pictures `(3, H, W)` of one prediction, the first of them what it implies."""
    about = f"{one.name}, {one.by}, {seen.prompt}, seed {seen.seed}, t {seen.predictions.t}"
    if one.by == seen.by:
        about += f", {seen.state}"
    pair = "".join(
        f'<div class="esd-{kind}">{img(picture, f"{caption} of {about}".replace(NULL, "eps_null itself"))}'
        f"<small>{caption}</small></div>"
        for kind, (caption, picture) in zip(("implied", "map"), shown.items(), strict=True)
    )
    tag = "esd-frozen" if one.by.startswith("frozen") else "esd-trained"
    return (
        f'<figure><figcaption><h2><span>{one.title}</span> <span class="esd-tag {tag}">{one.by}</span></h2>'
        f'</figcaption><div class="esd-pair">{pair}</div><p>{one.says}</p></figure>'
    )


def line(seen: LabelledPredictions) -> str:
    """Where the predictions lie along the difference, drawn to scale."""
    p = seen.predictions
    listed = {CONCEPT: p.eps_concept, NULL: p.eps_null, TARGET: p.target, EDITED: p.eps_edited}
    places = {name: p.position(eps) for name, eps in listed.items()}
    if seen.from_context:
        places = {CONCEPT: places.pop(CONCEPT), NULL: places.pop(NULL), CONTEXT: 0.0, **places}
    low, high = min(places.values()), max(places.values())
    spread = max(high - low, 1e-6)
    marks = "".join(
        f'<li class="{"esd-trained" if name == EDITED else ""}"><span>{name} <b>{_number(x)}</b></span>'
        f'<div><i style="left:{(x - low) / spread:.2%}"></i></div></li>'
        for name, x in places.items()
    )
    return f'<ul class="esd-line">{marks}</ul>'


def numbers(seen: LabelledPredictions) -> str:
    """Sizes, positions, cosines, distances."""
    names = dict(eps_null=NULL, eps_concept=CONCEPT, target=TARGET, eps_edited=EDITED, difference=DIFFERENCE)
    columns, measures = ("size", "cosine", "position", "to_target"), seen.predictions.measures()
    rows = []
    for key, name in names.items():
        head = Markup(f"{name} <small>{seen.by if key == 'eps_edited' else FROZEN}</small>")
        rows.append([head, *(_number(measures[key].get(column)) for column in columns)])
    heads = ["", *(column.replace("_", " ") for column in columns)]
    return table(heads, rows, "the predictions in numbers", "esd-numbers")


def _number(value: float | None) -> str:
    """Three decimals, a true minus, no minus zero."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")
