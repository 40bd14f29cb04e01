"""A learned word: what is trained, what is not, and that it fits."""

import pytest
import torch
from torch.testing import assert_close

from esd_core import closed_form_edit, generate, invert, load_model
from esd_core.denoise import predict
from esd_core.inversion import WORD, _noised

PICTURES = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(0))


def run(model, **options):
    return list(invert(model, PICTURES, **{"iterations": 3, "batch_size": 2, **options}))


def test_only_the_new_word_changes(tiny):
    parts = [tiny.unet, tiny.text_encoder, tiny.vae]
    before = [p.clone() for part in parts for p in part.parameters()]
    words = len(tiny.tokenizer)
    first, *_, last = run(tiny)
    assert (first.iteration, first.loss, last.iteration) == (0, None, 3)
    assert last.loss is not None and not torch.equal(first.embedding, last.embedding)
    after = [p for part in parts for p in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after) and len(tiny.tokenizer) == words


def test_the_word_joins_the_vocabulary_and_leaves_all_others(tiny):
    *_, last = run(tiny)
    grown = last.apply(tiny)
    assert len(grown.tokenizer) == len(tiny.tokenizer) + 1
    assert torch.equal(grown.encode(["a cat"]), tiny.encode(["a cat"]))
    prompts = [f"a {WORD}", f"a {WORD} in noto style"]
    assert len(grown.tokenizer(prompts[0]).input_ids) == 4  # begin, a, the word, end
    assert not torch.allclose(*grown.encode(prompts))
    assert generate(grown, prompts[1], seeds=[0], num_inference_steps=2).shape == (1, 3, 16, 16)
    assert grown.unet is tiny.unet


def test_a_word_set_to_a_known_embedding_is_that_word(tiny):
    first, *_ = run(tiny, start_from="cat", iterations=0)
    grown = first.apply(tiny)
    assert_close(grown.encode([f"a {WORD}"]), tiny.encode(["a cat"]))


def test_it_fits_pictures_on_noise_it_has_not_seen():
    model = load_model("emoji")
    images = generate(model, "a rocket", seeds=range(2), num_inference_steps=6, scheduler="dpm++")
    first, *_, last = invert(model, images, iterations=20, learning_rate=0.05, batch_size=4)
    x_t, t, eps = _noised(model, model.encode_images(images), 8, torch.Generator().manual_seed(9))

    def error(step):
        states = step.apply(model).encode([f"a {WORD}"])
        with torch.no_grad():
            return (predict(model.unet, x_t, t, states) - eps).square().mean().item()

    assert error(last) < 0.95 * error(first)


def test_it_learns_through_the_unet_it_is_given(tiny):
    edited = closed_form_edit(tiny, {"a cat": ""}).apply(tiny)
    frozen, again, through = run(tiny), run(tiny), run(tiny, unet=edited)
    assert torch.equal(frozen[-1].embedding, again[-1].embedding)
    assert not torch.equal(frozen[-1].embedding, through[-1].embedding)


def test_velocity_models_too(tiny_v):
    *_, last = run(tiny_v)
    assert torch.isfinite(last.embedding).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prompt": "a cat"}, "does not contain <learned>"),
        ({"iterations": -1}, "use 0 or more"),
        ({"batch_size": 0}, "use 0 or more, 1 or more"),
        ({"learning_rate": 0}, "above 0"),
    ],
)
def test_what_is_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        run(tiny, **options)


def test_pictures_are_needed(tiny):
    with pytest.raises(ValueError, match=r"give \(M, 3, H, W\)"):
        next(invert(tiny, PICTURES[:0]))
    with pytest.raises(ValueError, match=r"shape \(3, 16, 16\)"):
        next(invert(tiny, PICTURES[0]))


def test_an_embedding_of_another_model_is_refused(tiny):
    first, *_ = run(tiny, iterations=0)
    wider = type(first)(0, None, torch.zeros(99))
    with pytest.raises(ValueError, match="invert on this model"):
        wider.apply(tiny)
    with pytest.raises(ValueError, match="already"):
        first.apply(first.apply(tiny))
