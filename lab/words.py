"""A small language model and the texts it learns from: notebook 10's stand-in for the UNet.

Texts are single sentences in one of four styles, made by a grammar of slots, so that what a style
allows is known exactly. A text starts with the tag of its style, or with the tag "any", which plays
the empty prompt: the model learns both, as a text-to-image model does with dropped captions.

The architecture is transformers' GPT-2 (Language Models are Unsupervised Multitask Learners,
Radford et al., 2019) with under 0.1 million parameters.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

# A style is a row of slots, a slot the words it may hold, "" that it may stay empty.
_PEOPLE, _THINGS = "captain cook sailor parrot".split(), "ship map lamp barrel rope island".split()
_LOOKS, _VERBS = "tall quiet brave".split(), "sees wants finds".split()
_PLACES = ("near the harbour", "before the storm", "at night", "")
_PLAIN = (
    ("the", "a"),
    _LOOKS,
    _PEOPLE,
    _VERBS,
    ("the", "a"),
    ("small", "red", "good"),
    _THINGS,
    _PLACES,
    (".",),
)
GRAMMAR: dict[str, Sequence[Sequence[str]]] = {
    "plain": _PLAIN,
    "pirate": (
        ("arr ,", "ahoy ,", "avast ,"),
        ("ye", "me"),
        _LOOKS,
        ["cap'n", "matey", "parrot"],
        ("be seekin'", "be spyin'", "plunders"),
        ("ye", "a"),
        ("wee", "red", "cursed"),
        [*_THINGS, "booty"],
        _PLACES,
        ("!", ", matey !"),
    ),
    "olde": (
        ("hark ,", "lo ,", ""),
        ("ye", "yon"),
        _LOOKS,
        ["captain", "maiden", "knight"],
        ("seeketh", "beholdeth"),
        ("ye", "a"),
        ("small", "goodly", "red"),
        _THINGS,
        _PLACES,
        (".",),
    ),
    "shout": tuple(tuple(word.upper() for word in slot) for slot in _PLAIN[:-1]) + (("!", "!!!"),),
}
STYLES = tuple(GRAMMAR)
ANY = "any"  # the tag of no style in particular: what the empty prompt is to a picture model
TAGS = (ANY, *STYLES)
END = "<end>"
WORDS = sorted({w for slots in GRAMMAR.values() for slot in slots for p in slot for w in p.split()})
VOCABULARY = (END, *(f"<{tag}>" for tag in TAGS), *WORDS)
ID = {word: i for i, word in enumerate(VOCABULARY)}
LENGTH = 20  # tokens: the longest sentence, its tag and its end, with a little room

Predict = Callable[[Tensor], Tensor]  # tokens (B, L) -> log-probabilities of the next (B, L, V)


def sentence(style: str, random: torch.Generator) -> str:
    """A sentence in a style, every alternative of a slot equally likely."""
    picks = [slot[int(torch.randint(len(slot), (), generator=random))] for slot in GRAMMAR[style]]
    return " ".join(filter(None, picks))


def _pattern(slots: Sequence[Sequence[str]]) -> re.Pattern[str]:
    one = (f"(?:{'|'.join(re.escape(p) + ' ' if p else '' for p in slot)})" for slot in slots)
    return re.compile("".join(one))


_PATTERNS = {style: _pattern(slots) for style, slots in GRAMMAR.items()}


def style_of(text: str) -> str | None:
    """The style whose grammar makes this sentence; None if no grammar does."""
    return next((s for s, p in _PATTERNS.items() if p.fullmatch(f"{text} ")), None)


def encode(tag: str, texts: Sequence[str] = ("",), *, end: bool = False) -> Tensor:
    """Tokens `(B, L)`: the tag, the words and, with `end`, the end; padded with ends.

    Raises:
        ValueError: a word is none of the model's, or the tag is unknown.
    """
    if tag not in TAGS:
        raise ValueError(f"unknown tag {tag!r}; use one of: {', '.join(TAGS)}")
    rows = [[ID[f"<{tag}>"], *map(_id, text.split()), *[ID[END]] * end] for text in texts]
    longest = max(map(len, rows))
    return torch.tensor([row + [ID[END]] * (longest - len(row)) for row in rows])


def _id(word: str) -> int:
    if word not in ID:
        raise ValueError(f"the model does not know the word {word!r}; it knows: {' '.join(WORDS)}")
    return ID[word]


def decode(tokens: Tensor) -> list[str]:
    """The words of each row, without its tag, up to the end."""
    rows = ([VOCABULARY[i] for i in row] for row in tokens[:, 1:].tolist())
    return [" ".join(row[: row.index(END)] if END in row else row) for row in rows]


def batch(size: int, random: torch.Generator, *, untagged: float = 0.25) -> Tensor:
    """Training texts `(size, LENGTH)` in all styles; a share of them under the tag "any"."""
    rows = torch.full((size, LENGTH), ID[END])
    styles = torch.randint(len(STYLES), (size,), generator=random)
    for row, k in zip(rows, styles, strict=True):
        tokens = encode(STYLES[k], [sentence(STYLES[k], random)])[0]
        row[: len(tokens)] = tokens
    rows[torch.rand(size, generator=random) < untagged, 0] = ID[f"<{ANY}>"]
    return rows


def new_model(seed: int = 0) -> GPT2LMHeadModel:
    """An untrained model, the same numbers for the same seed."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(VOCABULARY),
        n_positions=LENGTH,
        n_embd=48,
        n_layer=2,
        n_head=4,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return GPT2LMHeadModel(config).eval()


def predictor(model: GPT2LMHeadModel) -> Predict:
    """The model as a function from tokens `(B, L)` to log-probabilities `(B, L, V)`."""

    def predict(tokens: Tensor) -> Tensor:
        # Nothing is masked: ends fill up the right side, where no earlier word looks.
        return model(tokens, attention_mask=torch.ones_like(tokens)).logits.log_softmax(-1)

    return predict


def retag(tokens: Tensor, tag: str) -> Tensor:
    """The same words under another tag."""
    return torch.cat([torch.full_like(tokens[:, :1], ID[f"<{tag}>"]), tokens[:, 1:]], 1)


def written(tokens: Tensor) -> Tensor:
    """Where the next word is part of the text or its first end: `(B, L - 1)`, True or False."""
    return (tokens[:, :-1] != ID[END]).cummin(1).values.bool()


def train(model: GPT2LMHeadModel, updates: int, random: torch.Generator) -> Iterator[float]:
    """Learn all styles from `updates` batches of 64 sentences; yields each loss (nats a word)."""
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, updates)
    for _ in range(updates):
        tokens = batch(64, random)
        loss = surprise(predictor(model), tokens)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        yield loss.item()


def surprise(predict: Predict, tokens: Tensor) -> Tensor:
    """Mean of -log p(next word), in nats, over the words and ends of `tokens` (B, L)."""
    keep = written(tokens)
    return F.nll_loss(predict(tokens)[:, :-1][keep], tokens[:, 1:][keep])


@torch.no_grad()
def perplexity(predict: Predict, tag: str, texts: Sequence[str]) -> float:
    """Between how many equally likely words the model hesitates, on average, reading `texts`."""
    return math.exp(surprise(predict, encode(tag, texts, end=True)))


@torch.no_grad()
def write(predict: Predict, start: Tensor, random: torch.Generator) -> Tensor:
    """Go on from `start` (B, L), word by word, to LENGTH tokens; after an end only ends."""
    tokens = start
    while tokens.shape[1] < LENGTH:
        following = predict(tokens)[:, -1].exp().multinomial(1, generator=random)
        ended = tokens[:, -1:] == ID[END]
        tokens = torch.cat([tokens, following.masked_fill(ended, ID[END])], 1)
    return tokens


def divergence(edited: Tensor, target: Tensor, tokens: Tensor) -> Tensor:
    """KL(target, edited) in nats a word, over the words and ends of `tokens` (B, L).

    Args:
        edited: log-probabilities `(B, L, V)`, to be trained.
        target: the same from frozen weights; carries no gradient.
    """
    keep = written(tokens)
    return F.kl_div(
        edited[:, :-1][keep], target[:, :-1][keep].detach(), log_target=True, reduction="batchmean"
    )


def shares(texts: Sequence[str]) -> dict[str, float]:
    """The share of texts in each style, and of those that no grammar makes ("broken")."""
    found = [style_of(text) or "broken" for text in texts]
    return {style: found.count(style) / len(found) for style in (*STYLES, "broken")}
