"""Train the CLIP whose text half conditions the UNet and whose both halves score pictures.

Contrastive loss as in Learning Transferable Visual Models From Natural Language Supervision
(Radford et al., 2021), arXiv 2103.00020, except that a picture has *several* right captions in a
batch ("a cat", "noto style"): the target is uniform over all captions that are true of it.
After `--text-updates` the text half is frozen and saved, so that the UNet's training can start,
and the vision half goes on alone against the locked text (as in LiT, Zhai et al., 2022, with the
roles of the halves exchanged).
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tools import checkpoint, data, tokenizer
from tools.catalog import OBJECTS
from tools.schedule import warm_hold_fall

OUT = Path("build/clip")
SEED = 1


def build_model(vocab_size: int, bos: int, eos: int) -> CLIPModel:
    """A CLIP with a 3-layer text and a 4-layer vision transformer."""
    text = dict(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.MAX_TOKENS,
        projection_dim=128,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    vision = dict(
        image_size=data.IMAGE_SIZE,
        patch_size=8,
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=5,
        projection_dim=128,
    )
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))


def true_of(captions: Tensor, pictures: Tensor) -> Tensor:
    """Which captions (rows of labels) hold for which pictures: bool `(pictures, captions)`."""
    named = captions[None] >= 0
    return ((captions[None] == pictures[:, None]) | ~named).all(dim=2)


def batch_loss(model: CLIPModel, tok: CLIPTokenizer, rgba: Tensor, step: int, batch: int) -> Tensor:
    """The symmetric contrastive loss of one seeded batch."""
    generator, rng = checkpoint.step_generator(SEED, step), random.Random(step)
    labels = data.sample_labels(batch, generator)
    images = data.degrade(data.compose(rgba, labels, generator), generator) * 2 - 1
    words, named = zip(*(data.random_caption(x, rng, empty=0) for x in labels.tolist()), strict=True)
    ids = tok(list(words), padding="max_length", return_tensors="pt").input_ids
    with checkpoint.autocast(rgba.device):
        out = model(input_ids=ids.to(rgba.device), pixel_values=images)
    seen, read = (F.normalize(x.float(), dim=1) for x in (out.image_embeds, out.text_embeds))
    logits = model.logit_scale.exp() * seen @ read.T
    target = true_of(torch.tensor(named), labels).float().to(rgba.device)
    to_text = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    to_image = F.cross_entropy(logits.T, (target / target.sum(0)).T)
    return (to_text + to_image) / 2


@torch.no_grad()
def accuracy(model: CLIPModel, tok: CLIPTokenizer, rgba: Tensor, seed: int = 10_000) -> dict:
    """Zero-shot accuracy on every drawing once, freshly placed, on white or a colour."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.cartesian_prod(torch.arange(len(OBJECTS)), torch.arange(len(data.STYLE_NAMES)))
    labels = torch.cat([grid, data.sample_labels(len(grid), generator)[:, 2:]], dim=1)
    images = data.compose(rgba, labels, generator) * 2 - 1
    seen = torch.cat([model.get_image_features(pixel_values=x).pooler_output for x in images.split(256)])
    scores = {}
    for part, (name, count) in enumerate((("objects", len(OBJECTS)), ("styles", 6))):
        prompts = [data.caption(*([-1] * part + [i] + [-1] * (2 - part))) for i in range(count)]
        ids = tok(prompts, padding="max_length", return_tensors="pt").input_ids.to(rgba.device)
        text = model.get_text_features(input_ids=ids).pooler_output
        guess = (F.normalize(seen, dim=1) @ F.normalize(text, dim=1).T).argmax(1).cpu()
        scores[name] = (guess == labels[:, part]).float().mean().item()
    return scores


def main(updates: int, text_updates: int, batch: int) -> None:
    """Train (or go on training) and write `build/clip`."""
    torch.manual_seed(SEED)
    device, rgba, tok = checkpoint.pick_device(), data.load_drawings(), tokenizer.build()
    model = build_model(len(tok), tok.bos_token_id, tok.eos_token_id).to(device)
    rgba = rgba.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.1)
    schedule = warm_hold_fall(optimizer, updates)
    parts = dict(model=model, optimizer=optimizer, schedule=schedule)
    for step in range(checkpoint.resume(OUT / "resume.pt", **parts), updates):
        if step == text_updates:
            save(model, tok)
        if step >= text_updates:
            for weights in (model.text_model, model.text_projection):
                weights.requires_grad_(False)
        loss = batch_loss(model, tok, rgba, step, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 100 == 0:
            checkpoint.save(OUT / "resume.pt", step + 1, **parts)
            print(
                f"clip {step + 1}/{updates} loss {loss.item():.3f} {accuracy(model, tok, rgba)}", flush=True
            )
    save(model, tok)


def save(model: CLIPModel, tok: CLIPTokenizer) -> None:
    """Write both halves and the tokenizer to `build/clip`."""
    model.save_pretrained(OUT)
    tok.save_pretrained(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=1500)
    parser.add_argument("--text-updates", type=int, default=500)
    parser.add_argument("--batch", type=int, default=256)
    main(**vars(parser.parse_args()))
