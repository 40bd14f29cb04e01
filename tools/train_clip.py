"""Train the CLIP that scores pictures, and from whose text half the UNet's own one starts.

Contrastive loss as in Learning Transferable Visual Models From Natural Language Supervision
(Radford et al., 2021), arXiv 2103.00020, except that a picture has *several* right captions in a
batch ("a cat", "noto style"): the target is uniform over all captions that are true of it. To it
comes what the app asks of it, as a loss: among all objects, styles and backgrounds of the
vocabulary, the picture's own phrase is the most similar. It looks at pictures of 64 pixels, and goes on
from the CLIP of the model before where ESD_START names that.
"""

from __future__ import annotations

import argparse
import random

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tools import checkpoint, data, growing, tokenizer
from tools.catalog import OBJECTS
from tools.training import Stage

OUT = checkpoint.BUILD / "clip"
SEED = 1
PHRASES = [  # of every object, every style, every background
    [data.caption(*(i if part == k else -1 for k in range(3))) for i in range(count)]
    for part, count in enumerate((len(OBJECTS), len(data.STYLE_NAMES), len(data.BACKGROUND_NAMES)))
]


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
        image_size=data.SMALL,
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


def contrast(logits: Tensor, true: Tensor) -> Tensor:
    """Symmetric cross-entropy of `(pictures, captions)`, uniform over what is true."""
    target = true.float().to(logits.device)
    to_text = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    to_image = F.cross_entropy(logits.T, (target / target.sum(0)).T)
    return (to_text + to_image) / 2


def naming(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the phrases of each kind; a white background has no phrase to find.

    `logits` are `(B, all phrases)` in the order of PHRASES, `labels` `(B, 3)`.
    """
    parts = logits.split([len(p) for p in PHRASES], dim=1)
    losses = [
        F.cross_entropy(x, wanted, ignore_index=-1, reduction="sum") / len(wanted)
        for x, wanted in zip(parts, labels.to(logits.device).T, strict=True)
    ]
    return torch.stack(losses).sum()


def embed_text(model: CLIPModel, tok: CLIPTokenizer, prompts: list[str]) -> Tensor:
    """Unit vectors; padded to the longest only, since what follows the end is never read."""
    ids = tok(prompts, padding=True, return_tensors="pt").input_ids.to(model.device)
    return F.normalize(model.get_text_features(input_ids=ids).pooler_output.float(), dim=1)


def embed_pictures(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit vectors of pictures `(B, 3, 64, 64)` in [0, 1]."""
    seen = model.get_image_features(pixel_values=images * 2 - 1).pooler_output
    return F.normalize(seen.float(), dim=1)


def batch_loss(model: CLIPModel, tok: CLIPTokenizer, rgba: Tensor, step: int, batch: int) -> Tensor:
    """Both losses of one seeded batch."""
    generator, rng = checkpoint.step_generator(SEED, step), random.Random(step)
    labels = data.sample_labels(batch, generator)
    images = data.shrink(data.compose(rgba, labels, generator))
    images = data.degrade(images, generator)
    words, named = zip(*(data.random_caption(x, rng, empty=0) for x in labels.tolist()), strict=True)
    with checkpoint.autocast(rgba.device):
        seen = embed_pictures(model, images)
        read = embed_text(model, tok, list(words))
        phrases = embed_text(model, tok, sum(PHRASES, []))
    scale = model.logit_scale.exp()
    true = true_of(torch.tensor(named), labels)
    return contrast(scale * seen @ read.T, true) + naming(scale * seen @ phrases.T, labels)


@torch.no_grad()
def accuracy(model: CLIPModel, tok: CLIPTokenizer, rgba: Tensor, seed: int = 10_000) -> dict:
    """Zero-shot accuracy on every drawing once, freshly placed, on white or a colour."""
    labels, seen = data.every_drawing(seed), []
    generator = torch.Generator().manual_seed(seed + 1)
    for part in labels.split(64):
        images = data.shrink(data.compose(rgba, part, generator))
        seen.append(embed_pictures(model, images))
    scores = {}
    for part, name in enumerate(("objects", "styles")):
        guess = (torch.cat(seen) @ embed_text(model, tok, PHRASES[part]).T).argmax(1).cpu()
        scores[name] = round((guess == labels[:, part]).float().mean().item(), 4)
    return scores


def main(updates: int, batch: int) -> None:
    """Train (or go on training) and write the folder `clip`."""
    torch.manual_seed(SEED)
    device, rgba, tok = checkpoint.pick_device(), data.load_drawings(), growing.words()
    model = build_model(len(tok), tok.bos_token_id, tok.eos_token_id).to(device)
    if growing.START:
        model.load_state_dict(CLIPModel.from_pretrained(growing.START / "clip").float().state_dict())
    rgba = rgba.to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-4, weight_decay=0.1)
    stage = Stage("clip", optimizer, updates, model=model)
    for made in stage.train(lambda step: batch_loss(model, tok, rgba, step, batch)):
        if made % 100 == 0:
            stage.say(str(accuracy(model, tok, rgba)))
            write(model, tok)
    write(model, tok)
    stage.record(batch=batch, start=str(growing.START), accuracy=accuracy(model, tok, rgba, 20_000))


def write(model: CLIPModel, tok: CLIPTokenizer) -> None:
    """Both halves and the tokenizer, to the folder `clip`."""
    model.save_pretrained(OUT)
    tok.save_pretrained(OUT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=64)
    main(**vars(parser.parse_args()))
