"""Learned text states: what is trained, what is not, and that they fit."""

import pytest
import torch

from esd_core import closed_form_edit, generate, invert
from esd_core.denoise import predict
from esd_core.study.inversion import PROMPT
from esd_core.teacher import noised

PICTURES = torch.rand((3, 3, 16, 16), generator=torch.Generator().manual_seed(0))


def run(model, **options):
    return list(invert(model, PICTURES, **{"iterations": 3, "batch_size": 2, **options}))


def test_no_weight_changes(tiny):
    edited = closed_form_edit(tiny, {"a cat": ""}).apply(tiny)
    parts = [tiny.unet, edited, tiny.text_encoder, tiny.vae]
    for parameter in edited.parameters():
        parameter.requires_grad_(True)  # whatever its owner left it at
    before = [p.clone() for part in parts for p in part.parameters()]
    first, *_, last = run(tiny, unet=edited)
    assert (first.iteration, first.loss, last.iteration) == (0, None, 3)
    assert last.loss is not None and not torch.equal(first.states, last.states)
    after = [p for part in parts for p in part.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(p.grad is None for p in after)


def test_the_prompt_stands_for_the_states_and_all_others_stay(tiny):
    *_, last = run(tiny)
    grown = last.apply(tiny)
    encoded = grown.encode(["a cat", PROMPT, ""])
    assert torch.equal(encoded[[0, 2]], tiny.encode(["a cat", ""]))
    assert torch.equal(encoded[1], last.states)
    assert grown.unet is tiny.unet and grown.fingerprint == tiny.fingerprint
    assert generate(grown, PROMPT, seeds=[0], num_inference_steps=2).shape == (1, 3, 16, 16)


def test_where_it_starts(tiny):
    for prompt in ("", "a cat"):
        (only,) = run(tiny, start_from=prompt, iterations=0)
        assert torch.equal(only.states, tiny.encode([prompt])[0])


def test_it_fits_pictures_on_noise_it_has_not_seen(emoji):
    model = emoji
    images = generate(model, "a rocket", seeds=range(2), num_inference_steps=6, scheduler="dpm++")
    first, *_, last = invert(model, images, iterations=12)
    generator = torch.Generator().manual_seed(9)
    x_t, t, eps = noised(model, model.encode_images(images), 8, generator)

    @torch.no_grad()
    def error(step):
        return (predict(model.unet, x_t, t, step.states[None]) - eps).square().mean().item()

    assert error(last) < 0.97 * error(first)


def test_it_learns_through_the_unet_it_is_given(tiny):
    edited = closed_form_edit(tiny, {"a cat": ""}).apply(tiny)
    frozen, again, through = run(tiny), run(tiny), run(tiny, unet=edited)
    assert torch.equal(frozen[-1].states, again[-1].states)
    assert not torch.equal(frozen[-1].states, through[-1].states)


def test_velocity_models_too(tiny_v):
    *_, last = run(tiny_v)
    assert torch.isfinite(last.states).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
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


def test_states_of_another_model_are_refused(tiny):
    first, *_ = run(tiny, iterations=0)
    wider = type(first)(0, None, torch.zeros(12, 99))
    with pytest.raises(ValueError, match="invert"):
        wider.apply(tiny)
