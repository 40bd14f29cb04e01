"""A real CLIPTokenizer whose byte-pair merges are learned from the model's own captions.

Every word of the captions ends up as one token; any other text still encodes, byte by byte.
"""

from __future__ import annotations

import json

from tokenizers import pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer

from tools.data import corpus

MAX_TOKENS = 16


def build() -> CLIPTokenizer:
    """Train the merges and return the tokenizer (BOS and EOS last, padding with EOS, as in SD)."""
    bpe = CLIPTokenizer().backend_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=100_000,  # no limit: merge until every caption word is one token
        min_frequency=1,
        initial_alphabet=alphabet,
        # Known before training, so that their ids, which break ties between merges, are fixed.
        special_tokens=[c + "</w>" for c in alphabet],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(corpus(), trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(m) for m in trained["merges"]]
    tokens = [*alphabet, *(c + "</w>" for c in alphabet), *("".join(m) for m in merges)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=MAX_TOKENS)
