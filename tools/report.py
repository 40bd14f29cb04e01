"""Measure the embedded model and write `assets/emoji/report.md` with its picture sheets.

Prompts of five forms are drawn (25 DDIM steps, guidance 4) and marked by the independent judge and
by the model's own CLIP; the real drawings, freshly placed, give both judges' ceilings. Memorisation
is measured as the distance from each picture to the nearest real drawing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from esd_core.exchange.pipelines import load_model
from esd_core.models import DiffusionModel
from esd_core.sampling import generate
from esd_core.study import figures
from esd_core.study.clip_probe import Probe
from tools import data, judge
from tools.catalog import OBJECTS

OUT = Path("assets/emoji")
OPTIONS = dict(guidance_scale=4.0, num_inference_steps=25)
FORMS = {  # which parts of the label the prompt names
    "object + style": (True, True, False),
    "object": (True, False, False),
    "style": (False, True, False),
    "object + background": (True, False, True),
    "object + style + background": (True, True, True),
}
EXAMPLES = [
    "cat",
    "dog",
    "rocket",
    "butterfly",
    "apple",
    "pizza",
    "guitar",
    "house",
    "car",
    "sunflower",
    "church",
    "parachute",
    "robot",
    "ghost",
    "umbrella",
    "strawberry",
    "owl",
    "crown",
]


def draw(model: DiffusionModel, prompts: list[str], seed: int, batch: int = 32) -> Tensor:
    """Pictures `(len(prompts), 3, H, W)`, one seed each."""
    parts = []
    for i in range(0, len(prompts), batch):
        some = prompts[i : i + batch]
        parts.append(generate(model, some, seeds=range(seed + i, seed + i + len(some)), **OPTIONS))
    return torch.cat(parts)


def labels_for(form: tuple[bool, bool, bool], count: int, seed: int) -> Tensor:
    """`count` labels naming the parts in `form`; styles and backgrounds in turn, objects random."""
    generator = torch.Generator().manual_seed(seed)
    turn = torch.arange(count)
    labels = torch.stack(
        [
            torch.randint(len(OBJECTS), (count,), generator=generator),
            turn % len(data.STYLE_NAMES),
            turn % len(data.BACKGROUND_NAMES),
        ],
        dim=1,
    )
    return torch.where(torch.tensor(form), labels, -1)


def marks(marker: judge.Judge, probe: Probe, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Shares of pictures found right, by the judge and by CLIP, for the parts the labels name."""
    right = judge.correct(marker, images, labels)
    result = {}
    for part, name in enumerate(judge.HEADS):
        named = labels[:, part] >= 0
        if not named.any():
            continue
        result[f"judge {name}"] = right[name][named].float().mean().item()
        known = [c for c in probe.vocabulary.concepts if c.kind == name]
        wanted = [known[i] for i in labels[named, part].tolist()]
        result[f"CLIP {name}"] = probe.accuracy(images[named], wanted)
    return result


def framed(images: Tensor, size: int = 32) -> Tensor:
    """Pictures on white cropped to what is drawn and scaled to `size`: placement taken out."""
    cut = []
    for image in images:
        ink = (image < 0.9).any(dim=0)
        rows, columns = ink.any(1).nonzero().flatten(), ink.any(0).nonzero().flatten()
        if len(rows) and len(columns):
            image = image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        cut.append(F.interpolate(image[None], (size, size), mode="bilinear", antialias=True)[0])
    return torch.stack(cut).flatten(1)


def memorisation(model: DiffusionModel, images: Tensor, labels: Tensor) -> dict[str, float]:
    """Root-mean-square distances to the nearest real drawing, and what to compare them with."""
    rgba = data.load_drawings()
    grid = torch.cartesian_prod(torch.arange(len(OBJECTS)), torch.arange(len(data.STYLE_NAMES)))
    generator = torch.Generator().manual_seed(0)
    on_white = torch.cat([grid, torch.full((len(grid), 1), -1)], dim=1)
    pictures = torch.cat(
        [data.shrink(data.compose(rgba, part, generator), model.image_size) for part in on_white.split(64)]
    )
    real = framed(pictures)
    scale = real.shape[1] ** 0.5
    distance, nearest = (torch.cdist(framed(images), real) / scale).min(dim=1)
    wanted = labels[:, 0] * len(data.STYLE_NAMES) + labels[:, 1]
    between = torch.cdist(real, real) / scale
    between.fill_diagonal_(torch.inf)
    subset = torch.arange(0, len(grid), 8)
    decoded = torch.cat([model.decode(model.encode_images(x)) for x in pictures[subset].split(32)])
    through_vae = (framed(decoded) - real[subset]).square().mean(dim=1).sqrt()
    return {
        "nearest real drawing is the one asked for (share)": (nearest == wanted).float().mean().item(),
        "distance to the nearest real drawing (median)": distance.median().item(),
        "floor: a real drawing through the VAE (median)": through_vae.median().item(),
        "scale: a real drawing to its nearest other one (median)": between.min(dim=1).values.median().item(),
    }


def sheets(model: DiffusionModel) -> None:
    """The picture sheets that the report shows."""
    phrases = {o.name: o.phrase for o in OBJECTS}
    prompts = [f"{phrases[e]} in {s} style" for e in EXAMPLES for s in data.STYLE_NAMES]
    rows = draw(model, prompts, 500).unflatten(0, (len(EXAMPLES), -1))
    figures.sheet(rows, EXAMPLES, data.STYLE_NAMES, scale=1).save(OUT / "sheet_styles.png")
    grounds = ["a cat", "a rocket", "a tulip in twemoji style"]
    prompts = [
        f"{g} on {data.caption(-1, -1, i)}" for g in grounds for i in range(len(data.BACKGROUND_NAMES))
    ]
    rows = draw(model, prompts, 700).unflatten(0, (len(grounds), -1))
    figures.sheet(rows, grounds, data.BACKGROUND_NAMES, scale=1).save(OUT / "sheet_backgrounds.png")
    rows = draw(model, [""] * 32, 900).unflatten(0, (4, -1))
    figures.sheet(rows, [""] * 4, [""] * 8, scale=1).save(OUT / "sheet_empty_prompt.png")
    prompts = [o.phrase for o in OBJECTS] + [""] * (-len(OBJECTS) % 16)
    rows = draw(model, prompts, 1100).unflatten(0, (-1, 16))
    figures.sheet(rows, [""] * len(rows), [""] * 16, scale=1).save(OUT / "sheet_objects.png")


def seconds_per_picture(model: DiffusionModel) -> float:
    """Median time of one picture at 20 steps with guidance."""
    times = []
    for seed in range(7):
        start = time.perf_counter()
        generate(model, "a cat", seeds=[seed], num_inference_steps=20, guidance_scale=4.0)
        times.append(time.perf_counter() - start)
    return sorted(times)[3]


def measure(count: int) -> dict:
    """Every figure of the report."""
    model, marker = load_model("emoji"), judge.load_judge()
    probe = Probe.of(model)
    result: dict = {"prompts": count * len(FORMS), **OPTIONS, "forms": {}}
    everything = []
    for i, (name, form) in enumerate(FORMS.items()):
        labels = labels_for(form, count, seed=i)
        images = draw(model, [data.caption(*x) for x in labels.tolist()], seed=10_000 * (i + 1))
        result["forms"][name] = marks(marker, probe, images, labels)
        everything.append((images, labels))
    result["all prompts"] = marks(marker, probe, *(torch.cat(x) for x in zip(*everything, strict=True)))
    real, labels = judge.fresh_pictures(data.load_drawings(), seed=20_000)
    result["real drawings, freshly placed"] = marks(marker, probe, real, labels)
    result["memorisation"] = memorisation(model, *everything[0])
    result["seconds per picture, 20 guided steps"] = seconds_per_picture(model)
    result["machine"] = f"{os.cpu_count()} cores, {platform.machine()}, {model.device.type}"
    sheets(model)
    return result


def table(rows: dict[str, dict[str, float]]) -> str:
    """A Markdown table of percentages."""
    columns = [
        "judge object",
        "CLIP object",
        "judge style",
        "CLIP style",
        "judge background",
        "CLIP background",
    ]
    lines = ["| prompts | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [f"{row[c]:.1%}" if c in row else "" for c in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(result: dict) -> None:
    """`report.json` and `report.md`."""
    (OUT / "report.json").write_text(json.dumps(result, indent=1) + "\n")
    rows = {**result["forms"], **{k: result[k] for k in ("all prompts", "real drawings, freshly placed")}}
    memory = "\n".join(f"- {k}: {v:.3f}" for k, v in result["memorisation"].items())
    text = f"""# What the embedded model can do

{result["prompts"]} prompts, 25 DDIM steps, guidance 4; {result["machine"]}.
Written by `python -m tools.report`; all figures are in `report.json`.

## Does it draw what it is asked for?

The *judge* is a small CNN trained on the real drawings only (`tools/judge.py`); *CLIP* is the
model's own. The last row is the ceiling of both: real drawings, freshly placed.

{table(rows)}

One picture, 20 guided steps: {result["seconds per picture, 20 guided steps"]:.2f} s.

## How far does it memorise?

It was trained to draw these drawings, so it should reproduce them; placement and background are
what varies. Pictures for "object + style" prompts are cropped to what is drawn and compared with
all real drawings, as root-mean-square distance of pixels in [0, 1]:

{memory}

## Sheets

Rows are prompts, columns styles: ![objects in every style](sheet_styles.png)

Backgrounds: ![backgrounds](sheet_backgrounds.png)

The empty prompt: ![the empty prompt](sheet_empty_prompt.png)

Every object, no style named: ![all objects](sheet_objects.png)
"""
    (OUT / "report.md").write_text(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-form", type=int, default=120, help="prompts of each of the five forms")
    write(measure(parser.parse_args().per_form))
