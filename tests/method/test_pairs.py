"""The examples a run learns from: what they hold, what they cost, and at which noise level."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from torch.testing import assert_close

from esd_core import load_model, pairs
from esd_core.config import EraseConfig, Target, preset
from esd_core.denoise import add_noise, predict
from esd_core.erasure import shared_copy
from esd_core.examples import draw_examples
from esd_core.objective import erasing_target
from esd_core.pairs import HELD_STEPS, TEACHER_BATCH, Pairs
from esd_core.run_prompts import HELD, Asked, asked, held, preservation_prompts
from esd_core.sampling import SCHEDULERS, sample
from esd_core.study.clip_probe import Probe
from esd_core.vocabulary import Concept, Vocabulary

CAT = Target("a cat")
RED_DOG = Target("red", erase_from="a red dog")
CONFIG = EraseConfig("a cat", num_inference_steps=5)


@pytest.fixture(params=["tiny", "tiny_v"])
def model(request):
    return request.getfixturevalue(request.param)


def counted(unet):
    """A copy of `unet` and the list of timesteps it will have been called with."""
    copied, calls = shared_copy(unet, []), []
    copied.register_forward_pre_hook(lambda _, args: calls.append(int(args[1].flatten()[0])))
    return copied, calls


def edited_from(unet):
    """A copy of `unet` that predicts something else."""
    edited = shared_copy(unet, ["conv_in.weight"])
    with torch.no_grad():
        edited.conv_in.weight.mul_(1.5)
    return edited


def generator_drawing(k: int, total: int) -> torch.Generator:
    """A generator whose first draw from 0 .. total - 1 is k."""
    for seed in count():
        if torch.randint(total, (), generator=torch.Generator().manual_seed(seed)) == k:
            return torch.Generator().manual_seed(seed)


def assert_fresh(model, drawn: Pairs, null: str, concept: str, centre: str, trained: str):
    """The outputs in `drawn` are what the frozen model says at its x_t under these prompts."""
    names = {"null": null, "concept": concept, "centre": centre, "frozen": trained}
    for name, prompt in names.items():
        fresh = predict(model.unet, drawn.x_t, drawn.t, model.encode([prompt]))
        assert_close(getattr(drawn, name), fresh, atol=1e-5, rtol=1e-4)
    assert_close(drawn.embeds, model.encode([trained]).expand(len(drawn), -1, -1))


# --- whole trajectories -----------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_samplers_by_products_are_finished_examples(model, scheduler):
    config = replace(CONFIG, scheduler=scheduler)
    drawn = pairs.finish(pairs.draw_all(model, model.unet, CAT, config, [1, 2]))
    assert len(drawn) == 2 * (6 if scheduler == "pndm" else 5)  # PNDM visits one timestep twice
    assert_fresh(model, drawn, null="", concept="a cat", centre="", trained="a cat")


def test_they_lie_on_the_guided_trajectories_of_their_seeds(tiny):
    drawn = pairs.finish(pairs.draw_all(tiny, tiny.unet, CAT, CONFIG, [1, 2]))
    steps = list(sample(tiny, "a cat", seeds=[1, 2], guidance_scale=3.0, num_inference_steps=5))
    assert torch.equal(drawn.x_t, torch.cat([s.x_t for s in steps]))
    assert drawn.t.tolist() == [int(s.t) for s in steps for _ in range(2)]


def test_trajectories_one_at_a_time_make_the_same_examples(tiny):
    seeds, single = [1, 2, 3], replace(CONFIG, micro_batch_size=1)
    unet, sizes = tiny.unet, []
    hook = unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    whole, split = (pairs.finish(pairs.draw_all(tiny, unet, CAT, c, seeds)) for c in (CONFIG, single))
    hook.remove()
    assert sizes == 5 * [6] + 15 * [2]  # each twice, for guidance
    assert whole.t.tolist() == split.t.tolist()
    for name in ("x_t", "null", "concept", "embeds"):
        assert_close(getattr(split, name), getattr(whole, name), atol=1e-5, rtol=1e-4)


def test_they_cost_no_evaluation_beyond_sampling(tiny):
    unet, calls = counted(tiny.unet)
    pairs.finish(pairs.draw_all(tiny.with_unet(unet), unet, CAT, CONFIG, [1, 2]))
    assert len(calls) == 5  # one doubled batch per step
    calls.clear()
    pairs.finish(pairs.draw_all(tiny.with_unet(unet), unet, RED_DOG, CONFIG, [1, 2]))
    assert len(calls) == 5 + 1  # a context is sampled; the concept takes one batch of 10 more


def test_a_context_is_sampled_trained_and_the_centre(model):
    drawn = pairs.finish(pairs.draw_all(model, model.unet, RED_DOG, CONFIG, [1]))
    assert_fresh(model, drawn, null="", concept="red", centre="a red dog", trained="a red dog")
    first = next(sample(model, "a red dog", seeds=[1], num_inference_steps=5))
    assert torch.equal(drawn.x_t[:1], first.x_t)


@pytest.mark.parametrize("target", [CAT, RED_DOG], ids=["plain", "context"])
def test_the_edited_model_draws_but_the_frozen_one_teaches(model, target):
    edited = edited_from(model.unet)
    drawn = pairs.finish(pairs.draw_all(model, edited, target, CONFIG, [1]))
    prompt = target.erase_from or target.concept
    centre = target.erase_from or ""
    assert_fresh(model, drawn, null="", concept=target.concept, centre=centre, trained=prompt)
    of_frozen = pairs.finish(pairs.draw_all(model, model.unet, target, CONFIG, [1]))
    assert not torch.allclose(drawn.x_t, of_frozen.x_t)


def test_large_sets_are_evaluated_in_bounded_batches(tiny):
    n = 2 * pairs.TEACHER_BATCH + 3
    unet, calls = counted(tiny.unet)
    x_t, t = torch.zeros(n, 4, 8, 8), torch.arange(n)
    output = pairs.finish(pairs.evaluate(tiny.with_unet(unet), x_t, t, tiny.encode(["a cat"])))
    assert len(output) == n and calls == [0, pairs.TEACHER_BATCH, 2 * pairs.TEACHER_BATCH]


# --- trajectories that stop -------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
@pytest.mark.parametrize("j", [0, 1, 7])
def test_exact_pairs_x_t_with_the_jth_timestep_of_the_schedule(tiny, scheduler, j):
    config = replace(CONFIG, points="last", num_inference_steps=10, scheduler=scheduler)
    unet, calls = counted(tiny.unet)
    drawn = pairs.draw_last(tiny, unet, CAT, config, [4, 5], generator_drawing(j, 10))
    options = dict(seeds=[4, 5], guidance_scale=3.0, num_inference_steps=10, scheduler=scheduler)
    steps = list(sample(tiny, "a cat", **options))
    assert calls == [int(s.t) for s in steps[: j + 1]]
    assert drawn.t.tolist() == [int(steps[j].t)] * 2
    assert torch.equal(drawn.x_t, steps[j].x_t)
    assert_fresh(tiny, drawn, null="", concept="a cat", centre="", trained="a cat")


@pytest.mark.parametrize(
    ("k", "steps", "level"),
    [
        # The schedule is 981, 961, ..., 1; the first is dropped and 50 - k steps are made, the
        # last of which is at 20 (k - 1) + 1 = 20k - 19 and ends 20 lower, at 20k - 39.
        (49, 1, 941),
        (25, 25, 461),
        (2, 48, 1),
        # k = 1 ends below the last timestep, where set_alpha_to_one=False means level 0; so does
        # k = 0, for which the script's list of 50 - k steps is one longer than there are.
        (1, 49, 0),
        (0, 49, 0),
    ],
)
def test_compvis_tells_the_unet_a_level_that_x_t_does_not_have(tiny, k, steps, level):
    config = preset("paper", "a cat")
    unet, calls = counted(tiny.unet)
    drawn = pairs.draw_last(tiny, unet, CAT, config, [4, 5], generator_drawing(k, 50))
    assert calls == list(range(961, 961 - 20 * steps, -20))
    assert ((20 * k <= drawn.t) & (drawn.t <= 20 * k + 19)).all()
    options = dict(seeds=[4, 5], guidance_scale=3.0, num_inference_steps=50)
    *_, last = sample(tiny, "a cat", start_at=1, stop_at=1 + steps, **options)
    expected = add_noise(last.x_0, last.eps_guided, tiny.alpha_bar[level])
    assert_close(drawn.x_t, expected, atol=1e-3, rtol=1e-3)
    assert_fresh(tiny, drawn, null="", concept="a cat", centre="", trained="a cat")


def test_compvis_draws_every_told_timestep_of_a_bin(tiny):
    config = replace(preset("paper", "a cat"), num_inference_steps=10, trajectories=64)
    drawn = pairs.draw_last(tiny, tiny.unet, CAT, config, list(range(64)), generator_drawing(9, 10))
    assert 900 <= drawn.t.min() < 920 and 980 < drawn.t.max() <= 999
    assert len(drawn.t.unique()) > 32  # each example has its own


def test_compvis_needs_two_steps(tiny):
    config = replace(preset("paper", "a cat"), num_inference_steps=1)
    with pytest.raises(ValueError, match="at least 2 sampling steps"):
        pairs.draw_last(tiny, tiny.unet, CAT, config, [0], torch.Generator().manual_seed(0))


# --- pictures ---------------------------------------------------------------------------------


def test_pictures_are_noised_to_random_levels(model):
    image = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    drawn = pairs.draw_images(model, CAT, image, 64, generator)
    assert_fresh(model, drawn, null="", concept="a cat", centre="", trained="a cat")
    assert drawn.t.min() < 100 and drawn.t.max() > 900
    # What is left of x_t without its picture is standard normal: 64 * 256 values, so the errors
    # of mean and deviation are about 1 / sqrt(16384) = 0.008.
    a = model.alpha_bar[drawn.t].reshape(-1, 1, 1, 1)
    eps = (drawn.x_t - a.sqrt() * model.encode_images(image)) / (1 - a).sqrt()
    assert abs(eps.mean()) < 0.04 and abs(eps.std() - 1) < 0.04


def test_every_picture_is_used(tiny, monkeypatch):
    # Latents so far apart that the sign of x_t says which one it was made from.
    x_0 = torch.tensor([1000.0, -1000.0]).reshape(2, 1, 1, 1).expand(2, 4, 8, 8)
    monkeypatch.setattr(type(tiny), "encode_images", lambda self, images: x_0)
    images = torch.zeros(2, 3, 16, 16)
    drawn = pairs.draw_images(tiny, CAT, images, 32, torch.Generator().manual_seed(1))
    assert 8 < (drawn.x_t.mean((1, 2, 3)) > 0).sum() < 24


# --- preservation -----------------------------------------------------------------------------


def test_preservation_asks_for_the_frozen_output_whatever_eta_is(model):
    prompts = ["", "a dog", "a rocket"]
    drawn = pairs.finish(pairs.draw_preservation(model, CONFIG, prompts, [1, 2, 3]))
    assert_close(drawn.embeds, model.encode(prompts).repeat(5, 1, 1))
    assert_close(drawn.frozen, predict(model.unet, drawn.x_t, drawn.t, drawn.embeds), atol=1e-5, rtol=1e-4)
    for eta in (0.0, 1.0, 7.5):
        target = erasing_target(drawn.null, drawn.concept, eta, drawn.centre)
        assert torch.equal(target, drawn.frozen)


def test_what_is_held_is_held_on_its_own_trajectory(tiny):
    long, lines = replace(CONFIG, num_inference_steps=50), TEACHER_BATCH + 2  # more than a batch
    prompts, seeds = ["", "a dog"] * (lines // 2), [1, 2] * (lines // 2)
    drawn = pairs.finish(pairs.draw_preservation(tiny, long, prompts, seeds))
    dog = list(
        sample(tiny, "a dog", seeds=[2], guidance_scale=long.start_guidance, num_inference_steps=HELD_STEPS)
    )
    assert len(drawn) == lines * len(dog)
    for line in (1, lines - 1):
        assert_close(drawn.x_t[line::lines], torch.cat([s.x_t for s in dog]), atol=1e-5, rtol=1e-4)
        assert drawn.t[line::lines].tolist() == [int(s.t) for s in dog]


def test_prompts_take_turns_in_holding(tiny):
    assert held(tiny, replace(CONFIG, preserve_prompts=("a dog", "a cow"))) == (
        ["a dog", "a cow"] * (HELD // 2)
    )
    many = tuple(f"{n} dogs" for n in range(HELD + 3))  # none of one's own is left out
    assert held(tiny, replace(CONFIG, preserve_prompts=many)) == list(many)


def test_without_a_vocabulary_the_empty_prompt_is_held(tiny):
    assert preservation_prompts(tiny, CONFIG) == [""]


def test_prompts_to_hold_name_nothing_that_is_erased(tiny):
    names = ["cat", "dog", "rocket", "red dog", "big cat"]
    concepts = tuple(Concept(n, f"a {n}", "object", "things") for n in names)
    model = replace(tiny, vocabulary=Vocabulary(concepts, frozenset(names)))
    chosen = preservation_prompts(model, EraseConfig(["a cat", "Red"]))
    assert chosen[0] == "" and set(chosen[1:]) == {"a dog", "a rocket"}
    assert len(preservation_prompts(model, CONFIG, count=2)) == 2
    assert preservation_prompts(model, CONFIG) == preservation_prompts(model, CONFIG)


# --- styles in the pictures of objects --------------------------------------------------------


def taught(tiny):
    """A model that says what it was taught: two objects, a style, a background."""
    kinds = {"a cat": "object", "a dog": "object", "noto style": "style", "a red": "background"}
    concepts = tuple(Concept(p.removeprefix("a "), p, k, k) for p, k in kinds.items())
    return replace(tiny, vocabulary=Vocabulary(concepts, frozenset()))


def test_a_style_is_asked_for_alone_and_then_on_one_object_after_the_other(tiny):
    model, config = taught(tiny), replace(CONFIG, from_objects="styles")
    alone, *dressed = asked(model, Target("noto style"), config, 4)
    assert alone == Asked("noto style", "")
    assert dressed[0] != dressed[1] and dressed[2] == dressed[0]  # two objects take turns
    assert set(dressed) == {Asked(f"{o} in noto style", o) for o in ("a cat", "a dog")}
    assert asked(model, Target("red"), config, 3) == [Asked("red")] * 3
    config = replace(config, from_objects="all")
    assert Asked("a cat on a red", "a cat") in asked(model, Target("red"), config, 3)


@pytest.mark.parametrize("target", [CAT, Target("noto style", erase_from="a dog"), Target("x")])
def test_what_is_no_style_or_has_its_context_is_asked_for_as_it_is(tiny, target):
    config = replace(CONFIG, from_objects="all")
    plain = Asked(target.erase_from or target.concept)
    assert asked(taught(tiny), target, config, 3) == asked(tiny, target, config, 3) == [plain] * 3
    assert asked(taught(tiny), Target("noto style"), CONFIG, 2) == [Asked("noto style")] * 2


def test_in_a_picture_of_an_object_nothing_is_the_object(tiny):
    model, config = taught(tiny), replace(CONFIG, from_objects="styles", trajectories=2, held_out=1)
    target = Target("noto style")
    config = replace(config, concepts=(target,))
    examples = pairs.finish(draw_examples(model, tiny.unet, config, torch.Generator()))
    asks = asked(model, target, config, 3)
    lines = [examples.train[0][torch.arange(10) % 2 == i] for i in range(2)]
    for drawn, ask in zip([*lines, examples.held_out], asks, strict=True):
        assert len(drawn) == config.num_inference_steps
        assert_fresh(model, drawn, ask.neutral, ask.prompt, ask.neutral, ask.prompt)


# --- sets -------------------------------------------------------------------------------------


def test_sets_are_indexed_and_joined_field_by_field(tiny):
    drawn = pairs.finish(pairs.draw_all(tiny, tiny.unet, RED_DOG, CONFIG, [1, 2]))
    again = Pairs.cat([drawn[:3], drawn[3:]])
    for name in Pairs.__dataclass_fields__:
        assert torch.equal(getattr(again, name), getattr(drawn, name))
    third = drawn[torch.tensor([2])]
    assert len(third) == 1 and torch.equal(third.concept[0], drawn.concept[2])


def test_neighbours_of_what_is_erased_are_held():
    model = load_model("emoji", device="cpu")
    probe = Probe(model)
    found = preservation_prompts(model, EraseConfig(["a cat", "a church"]))
    assert len(found) == len(set(found)) == HELD and "" in found
    near = [n.phrase for c in ("cat", "church") for n in probe.neighbours(probe.concept(c), 5)]
    assert set(near) <= set(found) and not {"a cat", "a church"} & set(found)
    assert held(model, EraseConfig(["a cat", "a church"])) == found
    found = preservation_prompts(model, EraseConfig("noto style"))
    styles = {c.phrase for c in model.vocabulary.of_kind("style")}
    assert styles - set(found) == {"noto style"}  # the word "style" is not what is erased
    ones_own = preservation_prompts(model, EraseConfig("a cat", preserve_prompts=["a dog"]))
    assert ones_own == ["a dog"]
