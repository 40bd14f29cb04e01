"""What the UNet's output means: conversions, guidance, and one batch for two predictions."""

import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance
from torch.testing import assert_close

from esd_core import denoise
from esd_core.objective import erasing_target

KINDS = ["epsilon", "v_prediction"]


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_conversions_by_hand():
    # alpha_bar = 0.64: signal sqrt(0.64) = 0.8, noise sqrt(0.36) = 0.6. With x_0 = 1, eps = 2:
    x_0, eps, alpha_bar = torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 2.0), torch.tensor(0.64)
    x_t = denoise.add_noise(x_0, eps, alpha_bar)
    v = denoise.add_noise(eps, -x_0, alpha_bar)
    assert x_t.item() == pytest.approx(2.0)  # 0.8 * 1 + 0.6 * 2
    assert v.item() == pytest.approx(1.0)  # 0.8 * 2 - 0.6 * 1
    for output, kind in ((eps, "epsilon"), (v, "v_prediction")):
        assert denoise.to_eps(output, x_t, alpha_bar, kind).item() == pytest.approx(2.0)
        assert denoise.to_x_0(output, x_t, alpha_bar, kind).item() == pytest.approx(1.0)
        score = denoise.to_score(output, x_t, alpha_bar, kind)
        assert score.item() == pytest.approx(-2 / 0.6)  # -eps / sqrt(1 - alpha_bar)


def test_conversions_are_inverse_at_every_noise_level(tiny):
    # One sample per level, so that alpha_bar of shape (B,) must be matched with the batch.
    alpha_bar = tiny.alpha_bar[[0, 1, 250, 500, 999]]
    x_0, eps = normal(5, 4, 8, 8), normal(5, 4, 8, 8, seed=1)
    x_t = denoise.add_noise(x_0, eps, alpha_bar)
    v = denoise.add_noise(eps, -x_0, alpha_bar)
    assert_close(denoise.to_eps(v, x_t, alpha_bar, "v_prediction"), eps)
    assert_close(denoise.to_x_0(v, x_t, alpha_bar, "v_prediction"), x_0, atol=1e-5, rtol=1e-4)
    assert_close(denoise.to_x_0(eps, x_t, alpha_bar, "epsilon"), x_0, atol=1e-5, rtol=1e-4)


def test_an_output_that_is_eps_passes_through():
    output, x_t = normal(1, 4, 2, 2), normal(1, 4, 2, 2, seed=1)
    assert denoise.to_eps(output, x_t, torch.tensor(0.3), "epsilon") is output


def test_the_forward_process_is_that_of_diffusers(tiny):
    x_0, eps, t = normal(3, 4, 8, 8), normal(3, 4, 8, 8, seed=1), torch.tensor([0, 500, 999])
    x_t = denoise.add_noise(x_0, eps, tiny.alpha_bar[t])
    assert_close(x_t, tiny.scheduler.add_noise(x_0, eps, t))
    v = denoise.add_noise(eps, -x_0, tiny.alpha_bar[t])
    assert_close(v, tiny.scheduler.get_velocity(x_0, eps, t), atol=1e-5, rtol=1e-4)


def test_the_score_is_the_gradient_of_the_log_density():
    # All x_0 equal to m: p_t(x) = N(sqrt(a) m, 1 - a), whose log density autograd can derive.
    a, m = torch.tensor(0.64), 3.0
    x_t = normal(1, 1, 4, 4).requires_grad_()
    (-((x_t - a.sqrt() * m) ** 2) / (2 * (1 - a))).sum().backward()
    eps = (x_t.detach() - a.sqrt() * m) / (1 - a).sqrt()
    assert_close(denoise.to_score(eps, x_t.detach(), a, "epsilon"), x_t.grad)


def test_guidance_at_its_landmarks():
    null, cond = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    assert torch.equal(denoise.guide(null, cond, 0), null)
    assert_close(denoise.guide(null, cond, 1), cond)
    # scale 3: 1 + 3 * (2 - 1) = 4
    assert denoise.guide(torch.tensor(1.0), torch.tensor(2.0), 3).item() == 4
    for eta in (0.0, 1.0, 2.5):  # the erasing target is guidance with a negative scale
        assert_close(denoise.guide(null, cond, -eta), erasing_target(null, cond, eta))


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0, 7.5])
def test_guidance_is_that_of_diffusers_in_both_formulations(scale):
    null, cond = normal(2, 4, 8, 8), normal(2, 4, 8, 8, seed=1)
    native = ClassifierFreeGuidance(guidance_scale=scale)
    # The paper's own w is one less: cond + w (cond - null) = null + (w + 1) (cond - null).
    original = ClassifierFreeGuidance(guidance_scale=scale - 1, use_original_formulation=True)
    for theirs in (native, original):
        assert_close(denoise.guide(null, cond, scale), theirs.forward(cond, null).pred)


def test_guidance_commutes_with_the_kind_of_output(tiny):
    # Its weights sum to one, so guiding v and converting equals converting and guiding eps.
    x_t, alpha_bar = normal(1, 4, 8, 8), tiny.alpha_bar[400]
    null, cond = normal(1, 4, 8, 8, seed=1), normal(1, 4, 8, 8, seed=2)
    in_v = denoise.to_eps(denoise.guide(null, cond, 5), x_t, alpha_bar, "v_prediction")
    eps = [denoise.to_eps(v, x_t, alpha_bar, "v_prediction") for v in (null, cond)]
    assert_close(in_v, denoise.guide(*eps, 5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("t", [torch.tensor(500), torch.tensor([20, 500, 999])], ids=["()", "(B,)"])
def test_predict_pair_is_two_predictions(tiny, t):
    x_t, null_embeds = normal(3, 4, 8, 8), tiny.encode([""])
    embeds = tiny.encode(["a cat", "a dog", "a red rocket"])
    null, cond = denoise.predict_pair(tiny.unet, x_t, t, null_embeds, embeds)
    assert_close(null, denoise.predict(tiny.unet, x_t, t, null_embeds))
    assert_close(cond, denoise.predict(tiny.unet, x_t, t, embeds))
    assert not torch.allclose(null, cond, atol=1e-3)  # the tiny model does read its prompt


def test_one_prompt_serves_a_whole_batch(tiny):
    x_t, t, embeds = normal(3, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])
    together = denoise.predict(tiny.unet, x_t, t, embeds)
    apart = torch.cat([denoise.predict(tiny.unet, x[None], t, embeds) for x in x_t])
    assert_close(together, apart)


def test_half_precision_weights_predict_in_float32(tiny, tiny_half):
    x_t, t, embeds = normal(2, 4, 8, 8), torch.tensor(500), tiny.encode(["a cat"])
    output = denoise.predict(tiny_half.unet, x_t, t, embeds)
    assert output.dtype == torch.float32
    # bfloat16 keeps 8 bits: relative errors of about 2^-8 = 0.4 % per operation
    assert_close(output, denoise.predict(tiny.unet, x_t, t, embeds), atol=0.03, rtol=0.03)
