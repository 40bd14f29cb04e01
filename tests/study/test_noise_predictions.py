"""Predictions at one point: the frozen model's own, and the geometry that is said of them."""

import pytest
import torch
from torch.testing import assert_close

from esd_core import EraseConfig, Target, denoise, erase
from esd_core.sampling import sample
from esd_core.study.noise_predictions import Predictions, nearest, predictions, rms, timesteps, trajectory

CAT = Target("a cat")


@pytest.fixture(params=["tiny", "tiny_v"])
def model(request):
    return request.getfixturevalue(request.param)


def at(model, index=5, target=CAT, **options) -> Predictions:
    return predictions(model, trajectory(model, target, 3), index, **options)


def test_the_trajectory_is_the_frozen_models_own_guided_one(model):
    steps = list(sample(model, "a cat", seeds=[3], guidance_scale=3.0, num_inference_steps=20))
    for index in (0, 7, 19):
        p = at(model, index)
        assert p.t == int(steps[index].t)
        assert_close(p.x_t, steps[index].x_t)
        assert_close(p.eps_null, steps[index].eps_null)
        assert_close(p.eps_concept, steps[index].eps_cond)


def test_the_target_is_equation_6_in_eps_whatever_the_model_predicts(model):
    p = at(model, eta=1.5)
    assert_close(p.target, p.eps_null - 1.5 * (p.eps_concept - p.eps_null), atol=1e-5, rtol=1e-5)
    assert p.position(p.target) == pytest.approx(-1.5, abs=1e-3)
    assert p.cosine(p.target) == pytest.approx(-1, abs=1e-3)
    assert p.position(p.eps_concept) == pytest.approx(1, abs=1e-3)
    assert p.cosine(p.eps_null) is None


def test_before_training_eps_edited_is_eps_concept(model):
    p = at(model)
    assert torch.equal(p.eps_edited, p.eps_concept)
    frozen, edited = p.guided(2.5)
    assert torch.equal(frozen, edited)
    assert_close(frozen, p.eps_null + 2.5 * p.difference)


def test_an_edited_unet_is_asked_for_both_of_its_predictions(tiny):
    *_, last = erase(tiny, EraseConfig("a cat", iterations=3, learning_rate=1e-2))
    unet = last.erasure.apply(tiny)
    p = at(tiny, unet=unet)
    t = torch.tensor(p.t)
    assert_close(p.eps_edited, denoise.predict(unet, p.x_t, t, tiny.encode(["a cat"])))
    assert_close(p.eps_edited_null, denoise.predict(unet, p.x_t, t, tiny.encode([""])))
    assert not torch.equal(p.eps_edited, p.eps_concept)


def test_erasing_from_a_context_moves_the_centre_there(tiny):
    p = at(tiny, target=Target("red", erase_from="a red cat"), eta=2.0)
    context = denoise.predict(tiny.unet, p.x_t, torch.tensor(p.t), tiny.encode(["a red cat"]))
    assert_close(p.eps_centre, context)
    assert_close(p.target, context - 2 * p.difference)
    assert torch.equal(p.eps_edited, p.eps_centre)
    assert p.position(p.eps_centre) == 0


def test_training_moves_eps_edited_towards_the_target(tiny):
    *_, last = erase(tiny, EraseConfig("a cat", iterations=60))
    unet = last.erasure.apply(tiny)
    points = range(len(trajectory(tiny, CAT, 3)))  # a seed the run has not trained on
    before, after = [at(tiny, i) for i in points], [at(tiny, i, unet=unet) for i in points]
    error = [sum(rms(p.eps_edited - p.target) for p in ps) for ps in (before, after)]
    assert error[1] < 0.5 * error[0]
    assert sum(p.position(p.eps_edited) for p in after) < 0


def test_the_map_adds_up_the_latent_channels_of_each_cell(tiny):
    p = at(tiny)
    length = p.difference[0].norm(dim=0)
    assert_close(p.towards_concept(p.eps_concept), length)
    assert_close(p.towards_concept(p.target), -length, atol=1e-5, rtol=1e-4)
    assert p.towards_concept(p.eps_null).abs().max() == 0


def test_measures_by_hand():
    null, concept = torch.zeros(1, 4, 1, 1), torch.tensor([3.0, 4.0, 0, 0]).reshape(1, 4, 1, 1)
    edited = torch.tensor([0.0, 0, 5, 0]).reshape(1, 4, 1, 1)
    p = Predictions(null, 1, 0.5, null, concept, null, -concept, edited, null)
    rows = p.measures()
    assert rows["eps_concept"] == dict(size=2.5, position=1, cosine=1, to_target=5)
    assert rows["target"] == dict(size=2.5, position=-1, cosine=-1, to_target=0)
    assert rows["eps_edited"]["position"] == rows["eps_edited"]["cosine"] == 0
    assert rows["eps_edited"]["to_target"] == pytest.approx(50**0.5 / 2)
    assert rows["difference"] == dict(size=2.5)


def test_x_0_undoes_the_noise(tiny):
    p = at(tiny)
    noised = denoise.add_noise(p.x_0(p.eps_null), p.eps_null, torch.tensor(p.alpha_bar))
    assert_close(noised, p.x_t, atol=1e-5, rtol=1e-5)


def test_the_timesteps_are_known_before_sampling(model):
    assert timesteps(model) == trajectory(model, CAT, 3).t.tolist()


def test_the_nearest_point_is_taken_and_others_refused(tiny):
    drawn = trajectory(tiny, CAT, 3)
    assert int(drawn.t[nearest(drawn, 510)]) == 501
    with pytest.raises(ValueError, match="t is 1000.* 1 to 951"):
        nearest(drawn, 1000)


def test_what_cannot_be_predicted_is_refused(tiny):
    with pytest.raises(ValueError, match="seed is -1"):
        trajectory(tiny, CAT, -1)
    with pytest.raises(ValueError, match="eta is nan"):
        at(tiny, eta=float("nan"))
    with pytest.raises(ValueError, match="guidance_scale is inf"):
        at(tiny).guided(float("inf"))
