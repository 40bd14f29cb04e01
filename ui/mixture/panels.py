"""What the Mixture tab shows: arrows at one timestep, samples before and after, their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esd_core.config import GUIDANCE, OPTIONS
from esd_core.plane.mixture import ALPHA_BAR, PredictEps, add_noise, generate, noise
from esd_core.plane.network import MixtureNet
from ui.mixture import class_text, svg
from ui.mixture.class_text import Classes
from ui.mixture.question import Ends
from ui.shared.markup import table

SAMPLES, DRAWN, GRID = 2000, 400, 8  # for the numbers, of them shown, arrows a side
START = noise(SAMPLES, torch.Generator().manual_seed(0))
RANGES = {"eta": OPTIONS["eta"].bounds, "guidance_scale": GUIDANCE, "t": (0, len(ALPHA_BAR) - 1)}


class Setup(NamedTuple):
    """What is looked at."""

    text: str
    concept: int
    t: int
    eta: float
    guidance_scale: float

    @property
    def classes(self) -> Classes:
        return class_text.read(self.text)

    @property
    def name(self) -> str:
        """Of the concept, safe inside HTML."""
        return escape(self.classes.names[self.concept])


@dataclass(frozen=True)
class Networks:
    """A network that learned the classes, and its copy from which one is erased."""

    seen: Setup  # when it was trained
    frozen: MixtureNet
    edited: MixtureNet | None = None  # None until erasing begins

    @property
    def target(self) -> PredictEps:
        """The erased prediction for the class; before erasing, what it will be trained to be."""
        if self.edited is None:
            return self.frozen.guided(self.seen.concept, -self.seen.eta)
        return self.edited.guided(self.seen.concept, 1.0)


def setup(classes: str, concept: str, t: float, eta: float, guidance_scale: float) -> Setup:
    """What the fields describe."""
    names = class_text.read(classes).names
    if concept not in names:
        raise ValueError(f"there is no class {concept!r}; choose one of: {', '.join(names)}")
    for label, value in dict(eta=eta, guidance_scale=guidance_scale, t=t).items():
        low, high = RANGES[label]
        if not low <= value <= high:
            raise ValueError(f"{label} is {value!r}; use a number from {low:g} to {high:g}")
    return Setup(classes, names.index(concept), round(t), eta, guidance_scale)


def arrows(seen: Setup, networks: Networks | None) -> str:
    """The exact predictions as arrows, and the learned one beside them."""
    classes, extent, t = seen.classes, seen.classes.extent, torch.tensor(seen.t)
    line = torch.linspace(-0.9, 0.9, GRID, dtype=torch.float64) * extent
    x = torch.cartesian_prod(line, line)
    null, concept = (classes.mixture.eps(x, ALPHA_BAR[t], k) for k in (None, seen.concept))
    target = classes.mixture.guided(seen.concept, -seen.eta)(x, t)
    longest = torch.cat([null, concept]).norm(dim=1).quantile(0.9)
    scale = -1.1 * (line[1] - line[0]) / longest  # depends on t alone, so that eta shows
    ground = svg.classes(classes, extent, seen.t)
    about = f"t {seen.t}, eta {seen.eta:g}, concept {classes.names[seen.concept]}"
    faded = float(ALPHA_BAR[t]) ** 0.5  # of the classes' means at t

    def drawn(label: str, **predictions: Tensor) -> str:
        marks = [svg.arrows(x, scale * eps, extent, kind) for kind, eps in predictions.items()]
        return svg.picture(extent, [ground, *marks], f"{label}, {about}", faded)

    exact = drawn("exact scores", null=null, concept=concept, target=target)
    says = (
        f"{_key('null', 'ε<sub>null</sub>, all data')} {_key('concept', f'ε<sub>{seen.name}</sub>')} "
        f"{_key('target', 'target')} Circles: one and two spreads of each class, noised to <i>t</i>. "
        "A click puts another class there."
    )
    learned = _panel(
        "Learned",
        drawn("no network yet"),
        "Nothing learned yet. The button trains a small network on draws of these classes, then "
        f"erases {seen.name} from it; a few seconds.",
    )
    if networks is not None:
        with torch.no_grad():
            beside = drawn("learned and exact", null=target, target=networks.target(x, t))
            learned = _panel("Learned by a network", beside, _learned(seen, networks))
    exact = _panel("Exact, from the formulas", exact, says)
    return _section("Predictions at one timestep", exact, learned, kind="esd-two")


def _learned(seen: Setup, networks: Networks) -> str:
    """What the arrows of a network show, and by how much it misses its exact target."""
    eta, generator, t = networks.seen.eta, torch.Generator().manual_seed(0), torch.tensor(seen.t)
    x_0, _ = seen.classes.mixture.draw(500, generator=generator)
    x_t = add_noise(x_0, noise(500, generator), ALPHA_BAR[t])
    missed = networks.target(x_t, t) - seen.classes.mixture.guided(seen.concept, -eta)(x_t, t)
    stale = f" It was trained with η = {eta:g}; press the button again for η = {seen.eta:g}."
    return (
        f"{_key('target', 'ε<sub>edited</sub> of the network')} {_key('null', 'the exact target')} "
        f"On noised data the two differ by {missed.square().mean().sqrt():.2f} (root mean square; the "
        f"noise itself has 1): it has met {seen.name} only near {seen.name}, and guesses "
        f"elsewhere.{'' if eta == seen.eta else stale}"
    )


@lru_cache(maxsize=256)
def exact_ends(text: str, concept: int, scale: float) -> Tensor:
    """Where exact sampling with guidance `scale` leads, `(SAMPLES, 2)`."""
    return generate(class_text.read(text).mixture.guided(concept, scale), START)


@lru_cache(maxsize=64)
def _never(text: str, concept: int) -> Ends:
    """The data as they would be without the class."""
    classes = class_text.read(text)
    x, _ = classes.without(concept).draw(SAMPLES, generator=torch.Generator().manual_seed(0))
    return Ends.of(classes, concept, x)


def samples(seen: Setup, answered: bool, networks: Networks | None) -> tuple[str, dict[str, Any]]:
    """Points before and after, and their numbers; only before until the question is answered."""
    classes, k, scale = seen.classes, seen.concept, seen.guidance_scale
    drawn = {"frozen": exact_ends(seen.text, k, scale)}
    edited = networks.edited if networks and answered else None
    if answered:
        drawn["erased"] = exact_ends(seen.text, k, -scale * seen.eta)
    if edited:
        drawn["learned"] = generate(edited.guided(k, scale), START)
    ends = {name: Ends.of(classes, k, x) for name, x in drawn.items()}
    heads = {"frozen": "Before", "erased": "After, exact", "learned": "After, by the network"}
    rows = {heads[name]: end for name, end in ends.items()}
    numbers: dict[str, Any] = {name: vars(end) for name, end in ends.items()}
    if answered:
        never = rows[f"Data without {classes.names[k]}"] = _never(seen.text, k)
        numbers["without"] = vars(never)
    if networks and edited:
        numbers["others"] = [_found(classes, net.guided, k) for net in (networks.frozen, edited)]
    panels = _scattered(seen, {heads[name]: x for name, x in drawn.items()})
    if not answered:
        hidden = '<p class="esd-hidden">Predict first</p>'
        panels.append(_panel("After", hidden, "Hidden until you have answered."))
    html = _section("Samples, from the same noise", *panels)
    return html + _numbers(seen, rows, numbers.get("others")), numbers


def _scattered(seen: Setup, drawn: dict[str, Tensor]) -> list[str]:
    """A picture for each set of samples `(N, 2)`, all to the same scale."""
    classes, scale = seen.classes, f"{seen.guidance_scale:g}"
    reach = max(float(x.norm(dim=1).quantile(0.97)) for x in drawn.values())
    extent = max(classes.extent, 1.05 * reach)
    who = ("the frozen model", f"following the target, η = {seen.eta:g}", "its copy after erasing")
    panels = []
    for (title, x), model in zip(drawn.items(), who, strict=False):
        points = x[:DRAWN]
        marks = [svg.classes(classes, extent), svg.dots(points, classes.mixture.nearest(points), extent)]
        name = classes.names[seen.concept]
        label = f"{DRAWN} samples of {name}, {title}, eta {seen.eta:g}, guidance {scale}"
        says = f"{seen.name} asked for with guidance {scale}: {model}."
        panels.append(_panel(title, svg.picture(extent, marks, label), says))
    return panels


def _found(classes: Classes, guided: Any, concept: int) -> float:
    """Share of samples of the other classes that end nearest the class that was asked for."""
    start, others = START[:300], [k for k in range(len(classes.names)) if k != concept]
    hits = [(classes.mixture.nearest(generate(guided(k, 1.0), start)) == k) for k in others]
    return torch.cat(hits).double().mean().item()


def _numbers(seen: Setup, rows: dict[str, Ends], others: list[float] | None) -> str:
    """Where the samples ended, and what happened to the other classes, before and after."""
    nearest = f"nearest {seen.classes.names[seen.concept]}"
    head = ("", nearest, "distance from the middle", "beyond 3 spreads of every class")
    cells = [(title, f"{e.share:.1%}", f"{e.radius:.1f}", f"{e.far:.0%}") for title, e in rows.items()]
    shown = table(head, cells, "where the samples end", "esd-numbers")
    kept = ""
    if others:
        kept = (
            "<p>Asked for the other classes, the network lands nearest the right one in "
            f"{others[0]:.0%} of samples before erasing and in {others[1]:.0%} after it.</p>"
        )
    counted = f"<p>{SAMPLES} samples; the distance is their median.</p>"
    return f'<div class="esd-prose">{shown}{counted}{kept}</div>'


def _key(kind: str, text: str) -> str:
    return f'<span class="esd-key"><i class="esd-{kind}"></i>{text}</span>'


def _panel(title: str, drawn: str, says: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3></figcaption>{drawn}<p>{says}</p></figure>"


def _section(title: str, *panels: str, kind: str = "") -> str:
    drawn = "".join(panels)
    return f'<section class="esd-planes {kind}"><h2>{title}</h2><div>{drawn}</div></section>'
