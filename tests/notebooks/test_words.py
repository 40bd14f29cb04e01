"""Notebook 10's texts and model: styles are known exactly, guidance is transformers' own."""

import math

import pytest
import torch
from transformers import UnbatchedClassifierFreeGuidanceLogitsProcessor

from esd_core import erasing_target
from lab import words
from lab.word_figures import next_words, style_bars


@pytest.fixture(scope="module")
def model():
    model = words.new_model()
    list(words.train(model, 60, torch.Generator().manual_seed(0)))
    return model


@pytest.mark.parametrize("style", words.STYLES)
def test_a_sentence_is_told_by_its_grammar_and_survives_the_tokens(style):
    random = torch.Generator().manual_seed(0)
    for _ in range(50):
        text = words.sentence(style, random)
        assert words.style_of(text) == style
        tokens = words.encode(style, [text], end=True)
        assert words.decode(tokens) == [text] and tokens.shape[1] <= words.LENGTH
    assert words.style_of(text + " ship") is None and words.style_of("") is None


def test_unknown_words_and_tags_are_named():
    with pytest.raises(ValueError, match="zeppelin"):
        words.encode("plain", ["the zeppelin"])
    with pytest.raises(ValueError, match="'angry'.*any, plain, pirate"):
        words.encode("angry")


def test_a_quarter_of_a_batch_has_no_style():
    rows = words.batch(2000, torch.Generator().manual_seed(0))
    tags = {tag: (rows[:, 0] == words.ID[f"<{tag}>"]).float().mean() for tag in words.TAGS}
    assert tags["any"] == pytest.approx(0.25, abs=0.03)
    assert all(tags[s] == pytest.approx(0.75 / 4, abs=0.03) for s in words.STYLES)


def test_only_words_and_the_first_end_count():
    tokens = words.encode("plain", ["a tall cook", "a"], end=True)
    assert words.written(tokens).tolist() == [[True] * 4, [True, True, False, False]]

    def uniform(tokens):
        return torch.full((*tokens.shape, 8), -math.log(8))

    short = tokens.clamp(max=7)
    assert words.surprise(uniform, short).item() == pytest.approx(math.log(8))
    assert words.divergence(uniform(short), uniform(short), short).abs() < 1e-6


def test_learning_lowers_the_loss_and_a_seed_fixes_it(model):
    losses = list(words.train(words.new_model(), 3, torch.Generator().manual_seed(0)))
    again = list(words.train(words.new_model(), 3, torch.Generator().manual_seed(0)))
    assert losses == again
    texts = [words.sentence("shout", torch.Generator().manual_seed(1))]
    learned = words.perplexity(words.predictor(model), "shout", texts)
    assert learned < words.perplexity(words.predictor(words.new_model()), "shout", texts) / 3


def test_writing_ends_with_ends_and_follows_its_generator(model):
    def run():
        random = torch.Generator().manual_seed(3)
        return words.write(words.predictor(model), words.encode("plain").expand(8, 1), random)

    tokens = run()
    assert torch.equal(tokens, run()) and tokens.shape == (8, words.LENGTH)
    over = (tokens[:, 1:] == 0).cummax(1).values
    assert torch.equal(over, tokens[:, 1:] == 0)
    assert sum(words.shares(words.decode(tokens)).values()) == pytest.approx(1)


@pytest.mark.parametrize("eta", [0.0, 1.0, 3.0])
def test_the_erasing_target_is_transformers_guidance_at_minus_eta(model, eta):
    tokens = words.encode("pirate", ["arr , ye"])
    predict = words.predictor(model)
    null, concept = predict(words.retag(tokens, "any")), predict(tokens)
    guide = UnbatchedClassifierFreeGuidanceLogitsProcessor(
        -eta, model, unconditional_ids=words.retag(tokens, "any")
    )
    theirs = guide(tokens, concept[:, -1])
    ours = erasing_target(null, concept, eta)[:, -1]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_figures_show_every_row():
    rows = {"null": torch.zeros(len(words.VOCABULARY)).log_softmax(0)}
    axis = next_words(rows | {"target": rows["null"]}, count=5).axes[0]
    assert len(axis.patches) == 10 and len(axis.get_xticklabels()) == 5
    shares = words.shares(["the tall cook sees a red ship .", "ship"])
    assert shares["plain"] == shares["broken"] == 0.5
    assert len(style_bars({"before": shares}, "x").axes[0].patches) == len(words.STYLES) + 1
