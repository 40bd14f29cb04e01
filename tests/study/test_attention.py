"""Recorded attention: the same prediction, maps that are shares, and nobody else disturbed."""

import threading

import pytest
import torch
from torch.testing import assert_close

from esd_core import EraseConfig, denoise, erase
from esd_core.erasure import shared_copy
from esd_core.sampling import noise
from esd_core.study.attention import END, PADDING, START, attention_maps, layer_labels, recording, tokens

PROMPT = "a red cat"
T = torch.tensor([501])


@pytest.fixture(params=["tiny", "tiny_v", "emoji"])
def model(request):
    return request.getfixturevalue(request.param)


def plain(model, unet, prompt=PROMPT):
    with torch.no_grad():
        return denoise.predict(unet, noise(model, [1]), T, model.encode([prompt]))


def test_recording_changes_no_prediction(model):
    assert_close(
        attention_maps(model, PROMPT, noise(model, [1]), T).output,
        plain(model, model.unet),
        atol=1e-5,
        rtol=1e-4,
    )


def test_half_precision_weights_are_recorded_too(tiny_half):
    seen = attention_maps(tiny_half, PROMPT, noise(tiny_half, [1]), T)
    assert_close(seen.output, plain(tiny_half, tiny_half.unet), atol=3e-2, rtol=3e-2)
    assert_close(seen.of().sum(0), torch.ones(8, 8), atol=1e-2, rtol=0)


def test_the_maps_are_shares_of_the_tokens_in_every_cell(model):
    seen = attention_maps(model, PROMPT, noise(model, [1]), T)
    assert seen.tokens[:1] + seen.tokens[-2:] == (START, END, PADDING)
    side = model.unet.config.sample_size
    for shares in (*seen.maps.values(), seen.of()):
        assert len(shares) == len(seen.tokens) and shares.min() >= 0
        assert_close(shares.sum(0), torch.ones(shares.shape[1:]))
    assert seen.of().shape[1:] == (side, side)
    labels = list(seen.maps)
    assert labels == layer_labels(model.unet) and len(set(labels)) == len(labels) > 3
    assert labels[0] == "down 0.0" and labels[-1].startswith("up")
    assert torch.equal(seen.of("down 0.0"), next(iter(seen.maps.values())))
    with pytest.raises(ValueError, match="attic.*down"):
        seen.of("attic")


def test_every_cross_attention_is_recorded_with_every_head_and_token(tiny):
    copy = shared_copy(tiny.unet, [])
    with recording(copy) as calls, torch.no_grad():
        denoise.predict(copy, noise(tiny, [1, 2]), T, tiny.encode([PROMPT]))
    assert len(calls) == sum("attn2" in name for name in tiny.unet.attn_processors)
    first = calls["down_blocks.0.attentions.0.transformer_blocks.0"][0]
    assert first.shape == (2, 4, 64, tiny.tokenizer.model_max_length)


def test_a_prompt_that_fills_the_encoder_has_no_padding(tiny):
    full = " ".join(["cat"] * (tiny.tokenizer.model_max_length - 2))
    assert tokens(tiny, full)[-2:] == ("cat", END)
    shares = attention_maps(tiny, full, noise(tiny, [1]), T).of()
    assert_close(shares.sum(0), torch.ones(8, 8))


def test_nothing_is_recorded_after_an_error(tiny):
    copy = shared_copy(tiny.unet, [])
    with pytest.raises(KeyError), recording(copy) as calls:
        raise KeyError
    plain(tiny, copy)
    assert calls == {}


def test_an_edited_unet_looks_elsewhere_and_the_frozen_one_as_before(tiny):
    *_, last = erase(tiny, EraseConfig("a cat", iterations=5, learning_rate=1e-2))
    x_t, unet = noise(tiny, [1]), last.erasure.apply(tiny)
    before = attention_maps(tiny, PROMPT, x_t, T).of()
    assert not torch.allclose(before, attention_maps(tiny, PROMPT, x_t, T, unet).of(), atol=1e-4)
    assert torch.equal(before, attention_maps(tiny, PROMPT, x_t, T).of())


def test_a_shared_unet_may_be_used_by_others_meanwhile(tiny):
    """No prediction of a UNet changes while a copy of it records."""
    expected = plain(tiny, tiny.unet)
    stop, wrong = threading.Event(), []

    def look_on() -> None:
        while not stop.is_set():
            attention_maps(tiny, PROMPT, noise(tiny, [1]), T)

    watcher = threading.Thread(target=look_on)
    watcher.start()
    try:
        for _ in range(50):
            if not torch.equal(plain(tiny, tiny.unet), expected):
                wrong.append("disturbed")
    finally:
        stop.set()
        watcher.join()
    assert not wrong
