"""What the Mixture tab shows: arrows at one timestep, samples before and after, their numbers."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from typing import Any, NamedTuple

import torch
from torch import Tensor

from esd_core.config import GUIDANCE, OPTIONS
from esd_core.plane.mixture import ALPHA_BAR, add_noise, generate, noise
from ui.mixture import class_text, svg
from ui.mixture.class_text import World
from ui.mixture.forecast import Ends
from ui.mixture.training import Lesson

SAMPLES, DRAWN, GRID = 2000, 400, 8  # for the numbers, of them shown, arrows a side
AT_T = "Predictions at one timestep"


class Scene(NamedTuple):
    """What is looked at."""

    text: str
    concept: int
    t: int
    eta: float
    guidance_scale: float

    @property
    def world(self) -> World:
        return class_text.read(self.text)

    @property
    def name(self) -> str:
        """Of the concept, safe inside HTML."""
        return escape(self.world.names[self.concept])


def scene(text: str, concept: str, t: float, eta: float, guidance_scale: float) -> Scene:
    """What the fields describe.

    Raises:
        ValueError: they describe nothing.
    """
    names = class_text.read(text).names
    if concept not in names:
        raise ValueError(f"there is no class {concept!r}; choose one of: {', '.join(names)}")
    bounds = {
        "eta": (eta, OPTIONS["eta"].bounds),
        "guidance_scale": (guidance_scale, GUIDANCE),
        "t": (t, (0, len(ALPHA_BAR) - 1)),
    }
    for label, (value, (low, high)) in bounds.items():
        if not low <= value <= high:
            raise ValueError(f"{label} is {value!r}; use a number from {low:g} to {high:g}")
    return Scene(text, names.index(concept), round(t), eta, guidance_scale)


# --- arrows


def fields(seen: Scene, learned: Lesson | None) -> str:
    """The exact predictions as arrows, and the learned one beside them."""
    w, t = seen.world, torch.tensor(seen.t)
    line = torch.linspace(-0.9, 0.9, GRID, dtype=torch.float64) * w.extent
    x = torch.cartesian_prod(line, line)
    null, cond = (w.mixture.eps(x, ALPHA_BAR[t], k) for k in (None, seen.concept))
    target = w.mixture.guided(seen.concept, -seen.eta)(x, t)
    step = 2 * 0.9 * w.extent / (GRID - 1)
    longest = torch.cat([null, cond]).norm(dim=1).quantile(0.9)
    scale = -1.1 * step / longest  # depends on t alone, so that eta shows
    ground = svg.classes(w, w.extent, seen.t)
    exact = [ground] + [
        svg.arrows(x, scale * eps, w.extent, kind)
        for kind, eps in (("null", null), ("concept", cond), ("target", target))
    ]
    about = f"t {seen.t}, eta {seen.eta:g}, concept {w.names[seen.concept]}"
    faded = float(ALPHA_BAR[t]) ** 0.5  # of the classes' means at t
    first = _panel(
        "Exact, from the formulas",
        svg.picture(w.extent, exact, f"exact scores, {about}", faded),
        f"{_key('null', 'ε<sub>null</sub>, all data')} "
        f"{_key('concept', f'ε<sub>{seen.name}</sub>')} {_key('target', 'target')} "
        "Circles: one and two spreads of each class, noised to <i>t</i>. A click puts another "
        "class there.",
    )
    if learned is None:
        blank = svg.picture(w.extent, [ground], f"no network yet, {about}", faded)
        says = "Nothing learned yet. The button trains a small network on draws of these classes, "
        says += f"then erases {seen.name} from it; a few seconds."
        return _section(AT_T, first, _panel("Learned", blank, says), kind="esd-two")
    with torch.no_grad():
        eps = learned.target(x, t)
    marks = [
        ground,
        svg.arrows(x, scale * target, w.extent, "null"),
        svg.arrows(x, scale * eps, w.extent, "target"),
    ]
    stale = (
        ""
        if learned.eta == seen.eta
        else (f" It was trained with η = {learned.eta:g}; press the button again for η = {seen.eta:g}.")
    )
    drawn = svg.picture(w.extent, marks, f"learned and exact, {about}", faded)
    second = _panel(
        "Learned by a network",
        drawn,
        f"{_key('target', 'ε<sub>edited</sub> of the network')} {_key('null', 'the exact target')} "
        f"On noised data the two differ by {_error(seen, learned):.2f} (root mean square; the "
        f"noise itself has 1): it has met {seen.name} only near {seen.name}, and guesses "
        f"elsewhere.{stale}",
    )
    return _section(AT_T, first, second, kind="esd-two")


@torch.no_grad()
def _error(seen: Scene, learned: Lesson) -> float:
    """Root mean square of what the network misses of its exact target, on noised data."""
    generator, t = torch.Generator().manual_seed(0), torch.tensor(seen.t)
    x_0, _ = seen.world.mixture.draw(500, generator=generator)
    x_t = add_noise(x_0, noise(500, generator), ALPHA_BAR[t])
    exact = seen.world.mixture.guided(seen.concept, -learned.eta)(x_t, t)
    return (learned.target(x_t, t) - exact).square().mean().sqrt().item()


# --- samples


def _start() -> Tensor:
    return noise(SAMPLES, torch.Generator().manual_seed(0))


@lru_cache(maxsize=256)
def exact_ends(text: str, concept: int, scale: float) -> Tensor:
    """Where exact sampling with guidance `scale` leads, `(SAMPLES, 2)`."""
    return generate(class_text.read(text).mixture.guided(concept, scale), _start())


@lru_cache(maxsize=64)
def _never(text: str, concept: int) -> Ends:
    """The data as they would be without the class."""
    seen = class_text.read(text)
    x, _ = seen.without(concept).draw(SAMPLES, generator=torch.Generator().manual_seed(0))
    return Ends.of(seen, concept, x)


def samples(seen: Scene, prediction: str | None, learned: Lesson | None) -> tuple[str, dict[str, Any]]:
    """Points before and after, and their numbers; only before until there is a prediction."""
    w, k, scale = seen.world, seen.concept, seen.guidance_scale
    drawn = {"frozen": exact_ends(seen.text, k, scale)}
    if prediction is not None:
        drawn["erased"] = exact_ends(seen.text, k, -scale * seen.eta)
        if learned and learned.edited:
            drawn["learned"] = generate(learned.edited.guided(k, scale), _start())
    ends = {name: Ends.of(w, k, x) for name, x in drawn.items()}
    reach = max(float(x.norm(dim=1).quantile(0.97)) for x in drawn.values())
    extent = max(w.extent, 1.05 * reach)
    heads = {
        "frozen": ("Before", "the frozen model"),
        "erased": ("After, exact", f"following the target, η = {seen.eta:g}"),
        "learned": ("After, by the network", "its copy after erasing"),
    }
    panels = []
    for name, x in drawn.items():
        title, who = heads[name]
        points = x[:DRAWN]
        marks = [svg.classes(w, extent), svg.dots(points, w.mixture.nearest(points), extent)]
        label = f"{DRAWN} samples of {w.names[k]}, {title}, eta {seen.eta:g}, guidance {scale:g}"
        says = f"{seen.name} asked for with guidance {scale:g}: {who}."
        panels.append(_panel(title, svg.picture(extent, marks, label), says))
    if prediction is None:
        hidden = '<p class="esd-hidden">Predict first</p>'
        panels.append(_panel("After", hidden, "Hidden until you have answered."))
    numbers: dict[str, Any] = {name: vars(end) for name, end in ends.items()}
    rows = [(heads[name][0], end) for name, end in ends.items()]
    if prediction is not None:
        numbers["without"] = vars(_never(seen.text, k))
        rows.append((f"Data without {seen.name}", _never(seen.text, k)))
    if learned and learned.edited and prediction is not None:
        numbers["others"] = [_found(w, net, k) for net in (learned.frozen, learned.edited)]
    html = _section("Samples, from the same noise", *panels) + table(rows, seen, numbers)
    return html, numbers


def _found(w: World, net: Any, concept: int) -> float:  # noqa: ANN401
    """Share of samples of the other classes that end nearest the class that was asked for."""
    start, others = _start()[:300], [k for k in range(len(w.names)) if k != concept]
    hits = [(w.mixture.nearest(generate(net.guided(k, 1.0), start)) == k) for k in others]
    return torch.cat(hits).double().mean().item()


def table(rows: list[tuple[str, Ends]], seen: Scene, numbers: dict[str, Any]) -> str:
    """The numbers, and what happened to the other classes."""
    heads = (f"nearest {seen.name}", "distance from the middle", "beyond 3 spreads of every class")
    head = "".join(f'<th scope="col">{text}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{title}</th><td>{e.share:.1%}</td><td>{e.radius:.1f}</td>'
        f"<td>{e.far:.0%}</td></tr>"
        for title, e in rows
    )
    others = ""
    if "others" in numbers:
        before, after = numbers["others"]
        others = (
            f"<p>Asked for the other classes, the network lands nearest the right one in "
            f"{before:.0%} of samples before erasing and in {after:.0%} after it.</p>"
        )
    return (
        f'<div class="esd-prose"><table class="esd-numbers"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table><p>{SAMPLES} samples; the distance is their median.</p>"
        f"{others}</div>"
    )


# --- HTML


def _key(kind: str, text: str) -> str:
    return f'<span class="esd-key"><i class="esd-{kind}"></i>{text}</span>'


def _panel(title: str, drawn: str, says: str) -> str:
    return f"<figure><figcaption><h3>{title}</h3></figcaption>{drawn}<p>{says}</p></figure>"


def _section(title: str, *panels: str, kind: str = "") -> str:
    drawn = "".join(panels)
    return f'<section class="esd-planes {kind}"><h2>{title}</h2><div>{drawn}</div></section>'
