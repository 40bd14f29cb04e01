"""The independent judge: a small CNN trained on the real drawings only, never on generated ones.

It says which object, style and background a picture shows, so that neither the diffusion model
nor its own CLIP marks its own homework. It looks at 64 pixels, larger pictures averaged down: so
one judge marks models of every size, and what it says of an old and a new one can be compared. That
is also why it is kept in `assets/judge/` and not made anew with every model.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tools import checkpoint, data
from tools.catalog import OBJECTS
from tools.training import Stage

OUT = Path("assets/judge")
SEED = 4
HEADS = {"object": len(OBJECTS), "style": len(data.STYLE_NAMES), "background": 8}  # 7 = white


class Judge(nn.Module):
    """Four convolution blocks, then one linear head for each question."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 128, 192)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 3, padding=1),
                nn.BatchNorm2d(b),
                nn.ReLU(),
                nn.Conv2d(b, b, 3, padding=1, stride=2),
                nn.BatchNorm2d(b),
                nn.ReLU(),
            )
            for a, b in zip(widths, widths[1:], strict=False)
        )
        self.heads = nn.ModuleDict({k: nn.Linear(widths[-1] * 4, n) for k, n in HEADS.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Pictures `(B, 3, H, W)` in [0, 1], H = W >= 64 -> logits per head."""
        x = data.shrink(images) * 2 - 1
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool2d(x, 2).flatten(1)
        return {name: head(x) for name, head in self.heads.items()}


def load_judge() -> Judge:
    """The committed judge, ready to classify."""
    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in load_file(OUT / "judge.safetensors").items()})
    return judge.eval()


@torch.no_grad()
def correct(judge: Judge, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Which pictures the judge finds right, per head; entries of unnamed parts mean nothing."""
    wanted = labels.clone()
    wanted[labels[:, 2] < 0, 2] = HEADS["background"] - 1
    parts = [judge(x) for x in images.split(256)]
    return {k: torch.cat([p[k] for p in parts]).argmax(1) == wanted[:, i] for i, k in enumerate(HEADS)}


def fresh_pictures(rgba: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Every drawing once, in a placement never trained on."""
    generator, labels = torch.Generator().manual_seed(seed), data.every_drawing(seed)
    images = torch.cat([data.compose(rgba, part, generator) for part in labels.split(64)])
    return images, labels


def batch_loss(judge: Judge, rgba: Tensor, step: int, batch: int) -> Tensor:
    """Cross-entropy of the three heads on one seeded batch, half of it degraded."""
    generator = checkpoint.step_generator(SEED, step)
    labels = data.sample_labels(batch, generator)
    images = data.shrink(data.compose(rgba, labels, generator))
    logits = judge(data.degrade(images, generator))
    labels[labels[:, 2] < 0, 2] = HEADS["background"] - 1
    wanted = labels.to(rgba.device)
    losses = [F.cross_entropy(logits[k], wanted[:, i]) for i, k in enumerate(HEADS)]
    return torch.stack(losses).sum()


def main(updates: int, batch: int) -> None:
    """Train (or go on training) and write the weights and their accuracy on fresh pictures."""
    torch.manual_seed(SEED)
    device = checkpoint.pick_device()
    rgba, judge = data.load_drawings(device), Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=1e-2)
    stage = Stage("judge", optimizer, updates, judge=judge)
    for _ in stage.train(lambda step: batch_loss(judge, rgba, step, batch)):
        pass
    scores = {
        k: round(v.float().mean().item(), 4)
        for k, v in correct(judge.cpu().eval(), *fresh_pictures(rgba.cpu(), 10_000)).items()
    }
    print(scores)
    stage.record(batch=batch, accuracy=scores)
    OUT.mkdir(parents=True, exist_ok=True)
    weights = {k: v.cpu() for k, v in judge.state_dict().items()}
    weights = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    save_file(weights, OUT / "judge.safetensors")
    (OUT / "accuracy.json").write_text(json.dumps({"accuracy on fresh real pictures": scores}) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=900)
    parser.add_argument("--batch", type=int, default=96)
    main(**vars(parser.parse_args()))
