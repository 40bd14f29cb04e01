"""Choose among the UNet's averages the one whose pictures the judge finds right most often.

Writes `chosen.json` to the folder `unet`; `tools.export` takes what it names.
"""

from __future__ import annotations

import argparse
import json

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tools import checkpoint, data, export, judge, train_unet
from tools.catalog import OBJECTS

SEED = 40_000
AT_ONCE = 32


def questions(count: int) -> Tensor:
    """Labels `(count, 3)`: objects at random, every style in turn, on white."""
    generator = torch.Generator().manual_seed(SEED)
    things = torch.randint(len(OBJECTS), (count,), generator=generator)
    styles = torch.arange(count) % len(data.STYLE_NAMES)
    return torch.stack([things, styles, torch.full_like(things, -1)], dim=1)


@torch.no_grad()
def score(name: str, labels: Tensor) -> dict[str, float]:
    """Shares of right objects and styles that the average `name` draws."""
    pipe, marker, right = export.pipeline(name).to(checkpoint.pick_device()), judge.load_judge(), []
    pipe.set_progress_bar_config(disable=True)
    for start, part in enumerate(tqdm(labels.split(AT_ONCE), desc=name)):
        seeds = [torch.Generator().manual_seed(SEED + start * AT_ONCE + i) for i in range(len(part))]
        images = pipe(
            [data.caption(*label) for label in part.tolist()],
            generator=seeds,
            num_inference_steps=25,
            guidance_scale=4.0,
            output_type="pt",
        ).images.cpu()
        found = judge.correct(marker, images, part)
        right.append(torch.stack([found["object"], found["style"]], dim=1))
    objects, styles = torch.cat(right).float().mean(0).tolist()
    return {"object": round(objects, 4), "style": round(styles, 4)}


def main(count: int) -> None:
    """Score every average and write down the best."""
    labels, names = questions(count), [f"ema_{d}" for d in train_unet.EMA_DECAYS]
    scores = {name: score(name, labels) for name in names}
    best = max(names, key=lambda name: sum(scores[name].values()))
    text = json.dumps({"chosen": best, "prompts": count, "scores": scores}, indent=1)
    (train_unet.OUT / "chosen.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="prompts for each average")
    main(**vars(parser.parse_args()))
