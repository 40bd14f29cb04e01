"""Assemble `assets/emoji`: a StableDiffusionPipeline folder, CLIP beside it, and the vocabulary.

Weights are written in float16, but the text encoder's in float32: transformers computes in the type that
it finds, diffusers in float32, and the two must meet. Everything loads with diffusers and transformers
alone.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer

from tools import data, train_clip, train_decoder, train_unet, train_vae
from tools.catalog import OBJECTS

OUT = Path("assets/emoji")


def chosen() -> str:
    """The average that `tools.choose` found best."""
    return json.loads((train_unet.OUT / "chosen.json").read_text())["chosen"]


def pipeline(average: str) -> StableDiffusionPipeline:
    """The trained parts as one pipeline, in float32; the UNet and its text encoder averaged."""
    folder = train_unet.OUT / average
    decoder = train_decoder.OUT if (train_decoder.OUT / "config.json").exists() else train_vae.OUT
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(decoder),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(train_clip.OUT),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=train_unet.build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def concepts() -> list[dict[str, str]]:
    """Every concept with the prompt that draws it alone, as `esd_core.vocabulary` reads them."""
    listed = [dict(name=o.name, phrase=o.phrase, kind="object", category=o.category) for o in OBJECTS]
    for part, (kind, names) in enumerate(
        (("style", data.STYLE_NAMES), ("background", data.BACKGROUND_NAMES)), start=1
    ):
        for i, name in enumerate(names):
            label = [-1, -1, -1]
            label[part] = i
            entry = dict(name=f"{name} {kind}", phrase=data.caption(*label), kind=kind, category=kind)
            listed.append(entry)
    return listed


def main() -> None:
    """Write the folder (existing files are replaced)."""
    made = pipeline(chosen())
    made.unet.half()
    made.vae.half()
    made.save_pretrained(OUT)
    clip = CLIPModel.from_pretrained(train_clip.OUT)
    clip.to(torch.float16).save_pretrained(OUT / "clip")
    CLIPTokenizer.from_pretrained(train_clip.OUT).save_pretrained(OUT / "clip")
    CLIPImageProcessor(
        size={"shortest_edge": data.SMALL}, crop_size=data.SMALL, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(OUT / "clip")
    words = sorted({w for c in data.corpus() for w in re.findall(r"[^\W\d_]+", c)})
    text = json.dumps({"concepts": concepts(), "words": words}, indent=1, ensure_ascii=False)
    (OUT / "concepts.json").write_text(text + "\n")
    size = sum(f.stat().st_size for f in OUT.rglob("*.safetensors"))
    print(f"{OUT}: {size / 1e6:.1f} MB of weights")


if __name__ == "__main__":
    main()
