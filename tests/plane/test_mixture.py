"""The lab's oracle: closed forms against finite differences, identities, diffusers, a table."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch.testing import assert_close

from esd_core import denoise
from esd_core.objective import erasing_target
from esd_core.plane.mixture import ALPHA_BAR, Mixture, add_noise, generate, noise, ring, sample
from esd_core.plane.network import trained

UNEVEN = Mixture(
    torch.tensor([[0.0, 2.0], [-1.5, -1.0], [2.0, -0.5]], dtype=torch.float64),
    torch.tensor([0.4, 0.2, 0.7], dtype=torch.float64),
    torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64),
)
LEVELS = ALPHA_BAR[[0, 100, 500, 999]]


def points(count: int = 40, seed: int = 0) -> torch.Tensor:
    return 2 * noise(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("concept", [None, 0, 1])
@pytest.mark.parametrize("alpha_bar", LEVELS)
def test_the_score_is_the_slope_of_the_log_density(alpha_bar, concept):
    x, h = points(), 1e-5
    slopes = []
    for axis in torch.eye(2, dtype=torch.float64):
        up = UNEVEN.log_density(x + h * axis, alpha_bar, concept)
        down = UNEVEN.log_density(x - h * axis, alpha_bar, concept)
        slopes.append((up - down) / (2 * h))
    score = UNEVEN.score(x, alpha_bar, concept)
    assert_close(score, torch.stack(slopes, dim=1), rtol=1e-5, atol=1e-5)
    assert_close(UNEVEN.eps(x, alpha_bar, concept), -(1 - alpha_bar).sqrt() * score)


@pytest.mark.parametrize("alpha_bar", LEVELS)
def test_the_unconditional_score_is_the_posterior_weighted_mean(alpha_bar):
    x = points()
    posterior = UNEVEN.posterior(x, alpha_bar)
    assert_close(posterior.sum(1), torch.ones(len(x), dtype=torch.float64))
    mean = sum(posterior[:, k, None] * UNEVEN.score(x, alpha_bar, k) for k in range(3))
    assert_close(UNEVEN.score(x, alpha_bar), mean)


def test_density_by_hand_and_in_sum():
    one = ring(1, radius=0, std=1.0)  # stays N(0, I) at every level: log p(0) = -log 2 pi
    origin = torch.zeros(1, 2, dtype=torch.float64)
    assert one.log_density(origin, ALPHA_BAR[300]).item() == pytest.approx(-1.8378770664)
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    mass = UNEVEN.log_density(grid, ALPHA_BAR[400]).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-6)


def test_the_ideal_eps_is_the_mean_of_the_noise_that_was_added():
    # Tweedie: among all predictions the conditional mean has the least error, and an error
    # orthogonal to every function of x_t.
    generator, level = torch.Generator().manual_seed(1), ALPHA_BAR[400]
    x_0, k = UNEVEN.draw(200_000, generator=generator)
    eps = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    x_t = add_noise(x_0, eps, level)
    error = eps - UNEVEN.eps(x_t, level)
    assert error.mean().abs() < 0.01 and (error * x_t).mean().abs() < 0.01
    assert_close(k.bincount() / len(k), UNEVEN.weights, atol=0.01, rtol=0, check_dtype=False)


def test_one_level_per_point():
    x = points(4)
    together = UNEVEN.eps(x, LEVELS, 1)
    apart = torch.cat([UNEVEN.eps(x[i : i + 1], LEVELS[i], 1) for i in range(4)])
    assert_close(together, apart)


def test_the_schedule_and_each_step_are_those_of_diffusers(tiny):
    assert_close(ALPHA_BAR.float(), tiny.scheduler.alphas_cumprod, atol=1e-6, rtol=1e-5)
    theirs = DDIMScheduler.from_config(tiny.scheduler.config, set_alpha_to_one=True)
    steps = list(sample(UNEVEN.guided(0, 3.0), points(8), num_inference_steps=28))
    for point, following in zip(steps, [*steps[1:], None], strict=True):
        # diffusers goes to t - 1000 // n: n = 27 makes that our 37, n = 1000 is the step off t = 0
        theirs.num_inference_steps = 27 if following else 1000
        after = theirs.step(point.eps, int(point.t), point.x_t).prev_sample
        assert_close(point.after, after, atol=1e-5, rtol=1e-5)
    assert [int(steps[0].t), int(steps[-1].t)] == [999, 0]


def test_landmarks_of_guidance(tiny):
    x, t = points(), torch.tensor(500)
    null, concept = UNEVEN.eps(x, ALPHA_BAR[t]), UNEVEN.eps(x, ALPHA_BAR[t], 0)
    assert torch.equal(UNEVEN.guided(0, 0)(x, t), null)
    assert_close(UNEVEN.guided(0, 1)(x, t), concept)
    assert_close(UNEVEN.guided(0, -1.5)(x, t), erasing_target(null, concept, 1.5))
    as_latents = denoise.add_noise(x[..., None, None], x[..., None, None], ALPHA_BAR[t])
    assert_close(add_noise(x, x, ALPHA_BAR[t]), as_latents[..., 0, 0], atol=1e-6, rtol=1e-6)


# Share nearest the concept and median radius where sampling with the erasing target ends. The
# erased model sampled with guidance w follows eta * w, so (1, w = 3) is the row of eta = 3.
TABLE = {0.0: (0.33, 2.0), 1.0: (0.08, 4.9), 2.0: (0.02, 8.1), 3.0: (0.007, 11.4)}


@pytest.mark.parametrize(("eta", "row"), TABLE.items())
def test_where_the_erasing_target_leads(eta, row):
    mixture, start = ring(), noise(8000, torch.Generator().manual_seed(0))
    ends = generate(mixture.guided(0, -eta), start)
    share = (mixture.nearest(ends) == 0).double().mean().item()
    radius = ends.norm(dim=1).median().item()
    assert share == pytest.approx(row[0], abs=0.012)
    assert radius == pytest.approx(row[1], abs=0.06)


def test_guidance_at_sampling_time_multiplies_eta():
    mixture, x, t = ring(), points(), torch.tensor(600)
    null = mixture.eps(x, ALPHA_BAR[t])
    erased = mixture.guided(0, -1.0)(x, t)
    assert_close(denoise.guide(null, erased, 3.0), mixture.guided(0, -3.0)(x, t))


def test_what_cannot_be_a_mixture_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        ring(std=0.0)
    with pytest.raises(ValueError, match="shape"):
        Mixture(torch.zeros(3, 2), torch.ones(2), torch.ones(3))


def test_a_network_learns_what_the_formula_says():
    mixture = ring()
    net = trained(mixture, updates=1000)
    x_0, _ = mixture.draw(2000, generator=torch.Generator().manual_seed(5))
    for t in (100, 400, 800):
        level = ALPHA_BAR[t]
        x_t = add_noise(x_0, noise(2000, torch.Generator().manual_seed(t)), level)
        for concept, bound in ((None, 0.3), (0, 0.12)):  # of a noise with standard deviation 1
            near = x_t if concept is None else x_t[mixture.nearest(x_0) == concept]
            exact = mixture.eps(near, level, concept)
            error = (net(near, torch.tensor(t), concept) - exact).square().mean().sqrt()
            assert error < bound, (t, concept)
    assert not any(p.requires_grad for p in net.parameters())


def test_the_network_is_the_same_every_time():
    a, b = (trained(ring(), updates=3) for _ in range(2))
    for name, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[name])
