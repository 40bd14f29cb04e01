"""The examples a run learns from: what they hold, what they cost, and at which noise level."""

from dataclasses import replace
from itertools import count

import pytest
import torch
from diffusers import PNDMScheduler
from torch.testing import assert_close

from esd_core.config import EraseConfig, Target, preset
from esd_core.denoise import add_noise, predict
from esd_core.erasing import target_of
from esd_core.erasure import shared_copy
from esd_core.examples import draw
from esd_core.objective import erasing_target
from esd_core.prompts import HELD, Line, asked, held, neighbours, prompts_to_hold
from esd_core.sampling import SCHEDULERS, finish, sample
from esd_core.teacher import AT_ONCE, HELD_STEPS, Pairs, Teacher
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


def walked(model, target, config, seeds, unet=None) -> Pairs:
    """Whole trajectories of the target's own prompt, one per seed."""
    lines = [Line(target.erase_from or target.concept, seed=seed) for seed in seeds]
    return finish(Teacher(model, config, None if unet is model.unet else unet).walked(target, lines))


def held_pairs(model, config, prompts, seeds) -> Pairs:
    lines = [Line(prompt, seed=seed) for prompt, seed in zip(prompts, seeds, strict=True)]
    return finish(Teacher(model, config).walked(None, lines))


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
    drawn = walked(model, CAT, config, [1, 2], model.unet)
    assert len(drawn) == 2 * (6 if scheduler == "pndm" else 5)  # PNDM visits one timestep twice
    assert_fresh(model, drawn, null="", concept="a cat", centre="", trained="a cat")


def test_they_lie_on_the_guided_trajectories_of_their_seeds(tiny):
    drawn = walked(tiny, CAT, CONFIG, [1, 2], tiny.unet)
    steps = list(sample(tiny, "a cat", seeds=[1, 2], guidance_scale=3.0, num_inference_steps=5))
    assert torch.equal(drawn.x_t, torch.cat([s.x_t for s in steps]))
    assert drawn.t.tolist() == [int(s.t) for s in steps for _ in range(2)]


def test_trajectories_one_at_a_time_make_the_same_examples(tiny):
    seeds, single = [1, 2, 3], replace(CONFIG, micro_batch_size=1)
    unet, sizes = tiny.unet, []
    hook = unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    whole, split = (walked(tiny, CAT, c, seeds) for c in (CONFIG, single))
    hook.remove()
    assert sizes == 5 * [6] + 15 * [2]  # each twice, for guidance
    assert whole.t.tolist() == split.t.tolist()
    for name in ("x_t", "null", "concept", "embeds"):
        assert_close(getattr(split, name), getattr(whole, name), atol=1e-5, rtol=1e-4)


def test_they_cost_no_evaluation_beyond_sampling(tiny):
    unet, calls = counted(tiny.unet)
    walked(tiny.with_unet(unet), CAT, CONFIG, [1, 2], unet)
    assert len(calls) == 5  # one doubled batch per step
    calls.clear()
    walked(tiny.with_unet(unet), RED_DOG, CONFIG, [1, 2], unet)
    assert len(calls) == 5 + 5  # a context is sampled; at each of its steps the concept takes one more


def test_a_context_is_sampled_trained_and_the_centre(model):
    drawn = walked(model, RED_DOG, CONFIG, [1], model.unet)
    assert_fresh(model, drawn, null="", concept="red", centre="a red dog", trained="a red dog")
    first = next(sample(model, "a red dog", seeds=[1], num_inference_steps=5))
    assert torch.equal(drawn.x_t[:1], first.x_t)


@pytest.mark.parametrize("target", [CAT, RED_DOG], ids=["plain", "context"])
def test_the_edited_model_draws_but_the_frozen_one_teaches(model, target):
    edited = edited_from(model.unet)
    drawn = walked(model, target, CONFIG, [1], edited)
    prompt = target.erase_from or target.concept
    centre = target.erase_from or ""
    assert_fresh(model, drawn, null="", concept=target.concept, centre=centre, trained=prompt)
    of_frozen = walked(model, target, CONFIG, [1], model.unet)
    assert not torch.allclose(drawn.x_t, of_frozen.x_t)


@pytest.mark.parametrize("micro", [1, 3, 256])
@pytest.mark.parametrize("target", [CAT, RED_DOG], ids=["plain", "context"])
def test_a_micro_batch_bounds_what_the_teacher_and_the_vae_run_at_once(tiny, target, micro):
    count = AT_ONCE + 4 if micro > AT_ONCE else micro + 1
    config, images = replace(CONFIG, micro_batch_size=micro), torch.zeros(2 * count, 3, 16, 16)
    sizes, coded = [], []
    hooks = [
        tiny.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0]))),
        tiny.vae.encoder.register_forward_pre_hook(lambda _, given: coded.append(len(given[0]))),
    ]
    walked(tiny, target, config, range(count))
    assert max(sizes) <= 2 * min(micro, AT_ONCE)  # both branches of guidance
    sizes.clear()
    Teacher(tiny, config).images(target, images, 2 * count, torch.Generator().manual_seed(0))
    for hook in hooks:
        hook.remove()
    assert max(sizes) <= min(micro, AT_ONCE)


# --- trajectories that stop -------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["ddim", "pndm"])
@pytest.mark.parametrize("j", [0, 1, 7])
def test_exact_pairs_x_t_with_the_jth_timestep_of_the_schedule(tiny, scheduler, j):
    config = replace(
        CONFIG, points="last", redraw_every=1, held_out=0, num_inference_steps=10, scheduler=scheduler
    )
    unet, calls = counted(tiny.unet)
    drawn = Teacher(tiny, config, unet).stopped(CAT, [4, 5], generator_drawing(j, 10))
    options = dict(seeds=[4, 5], guidance_scale=3.0, num_inference_steps=10, scheduler=scheduler)
    steps = list(sample(tiny, "a cat", **options))
    assert calls == [int(s.t) for s in steps[: j + 1]]
    assert drawn.t.tolist() == [int(steps[j].t)] * 2
    assert torch.equal(drawn.x_t, steps[j].x_t)
    assert_fresh(tiny, drawn, null="", concept="a cat", centre="", trained="a cat")


@pytest.mark.parametrize("j", [0, 3])
@pytest.mark.parametrize(("target", "counted"), [(CAT, 2), (RED_DOG, 1)], ids=["plain", "context"])
def test_official_2026_learns_what_the_authors_trainer_computes(tiny, target, counted, j):
    """`StableDiffusionESDAdapter.training_step` of utils/esd_trainer.py (2ff19a1), written out: j steps of
    the frozen model with guidance 3, then e_from - counted * (e_concept - e_null) at the schedule's j-th
    timestep; e_from is e_concept without --erase_from, and counted its --negative_guidance, 2 by default."""
    config = replace(preset("official-2026", [target]), num_inference_steps=5)
    drawn = Teacher(tiny, config).stopped(target, [4], generator_drawing(j, 5))
    prompt = target.erase_from or target.concept
    scheduler = PNDMScheduler.from_config(tiny.scheduler.config, skip_prk_steps=True)
    scheduler.set_timesteps(5)
    x_t, t = next(sample(tiny, prompt, seeds=[4], num_inference_steps=5)).x_t, scheduler.timesteps[j]
    null, from_, concept = tiny.encode(["", prompt, target.concept]).split(1)
    with torch.no_grad():
        for before in scheduler.timesteps[:j]:
            e_null, e_from = (tiny.unet(x_t, before, states).sample for states in (null, from_))
            x_t = scheduler.step(e_null + 3 * (e_from - e_null), before, x_t).prev_sample
        e_null, e_from, e_concept = (tiny.unet(x_t, t, states).sample for states in (null, from_, concept))
    assert drawn.t.tolist() == [int(t)]
    assert_close(drawn.x_t, x_t, atol=1e-5, rtol=1e-4)
    assert_close(target_of(drawn, config), e_from - counted * (e_concept - e_null), atol=1e-4, rtol=1e-4)
    assert_close(drawn.embeds, from_)  # under which the edited model is trained


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
    drawn = Teacher(tiny, config, unet).stopped(CAT, [4, 5], generator_drawing(k, 50))
    assert calls == list(range(961, 961 - 20 * steps, -20))
    assert ((20 * k <= drawn.t) & (drawn.t <= 20 * k + 19)).all()
    options = dict(seeds=[4, 5], guidance_scale=3.0, num_inference_steps=50)
    *_, last = sample(tiny, "a cat", start_at=1, stop_at=1 + steps, **options)
    expected = add_noise(last.x_0, last.eps_guided, tiny.alpha_bar[level])
    assert_close(drawn.x_t, expected, atol=1e-3, rtol=1e-3)
    assert_fresh(tiny, drawn, null="", concept="a cat", centre="", trained="a cat")


def test_compvis_draws_every_told_timestep_of_a_bin(tiny):
    config = replace(preset("paper", "a cat"), num_inference_steps=10, trajectories=64, batch_size=64)
    drawn = Teacher(tiny, config, tiny.unet).stopped(CAT, list(range(64)), generator_drawing(9, 10))
    assert 900 <= drawn.t.min() < 920 and 980 < drawn.t.max() <= 999
    assert len(drawn.t.unique()) > 32  # each example has its own


def test_compvis_needs_two_steps(tiny):
    config = replace(preset("paper", "a cat"), num_inference_steps=1)
    with pytest.raises(ValueError, match="2 sampling steps"):
        Teacher(tiny, config, tiny.unet).stopped(CAT, [0], torch.Generator().manual_seed(0))


# --- pictures ---------------------------------------------------------------------------------


def test_pictures_are_noised_to_random_levels(model):
    image = torch.rand((1, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    drawn = Teacher(model, CONFIG).images(CAT, image, 64, generator)
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
    drawn = Teacher(tiny, CONFIG).images(CAT, images, 32, torch.Generator().manual_seed(1))
    assert 8 < (drawn.x_t.mean((1, 2, 3)) > 0).sum() < 24


# --- preservation -----------------------------------------------------------------------------


def test_preservation_asks_for_the_frozen_output_whatever_eta_is(model):
    prompts = ["", "a dog", "a rocket"]
    drawn = held_pairs(model, CONFIG, prompts, [1, 2, 3])
    assert_close(drawn.embeds, model.encode(prompts).repeat(5, 1, 1))
    assert_close(drawn.frozen, predict(model.unet, drawn.x_t, drawn.t, drawn.embeds), atol=1e-5, rtol=1e-4)
    for eta in (0.0, 1.0, 7.5):
        target = erasing_target(drawn.null, drawn.concept, eta, drawn.centre)
        assert torch.equal(target, drawn.frozen)


def test_what_is_held_is_held_on_its_own_trajectory(tiny):
    long, lines = replace(CONFIG, num_inference_steps=50), AT_ONCE + 2  # more than a batch
    prompts, seeds = ["", "a dog"] * (lines // 2), [1, 2] * (lines // 2)
    drawn = held_pairs(tiny, long, prompts, seeds)
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
    assert prompts_to_hold(tiny, CONFIG) == [""]


def test_prompts_to_hold_name_nothing_that_is_erased(tiny):
    names = ["cat", "dog", "rocket", "red dog", "big cat"]
    concepts = tuple(Concept(n, f"a {n}", "object", "things") for n in names)
    model = replace(tiny, vocabulary=Vocabulary(concepts, frozenset(names)))
    chosen = prompts_to_hold(model, EraseConfig(["a cat", "Red"]))
    assert chosen[0] == "" and set(chosen[1:]) == {"a dog", "a rocket"}
    assert len(prompts_to_hold(model, CONFIG, count=2)) == 2
    assert prompts_to_hold(model, CONFIG) == prompts_to_hold(model, CONFIG)


# --- styles in the pictures of objects --------------------------------------------------------


def taught(tiny):
    """A model that says what it was taught: two objects, a style, a background."""
    kinds = {"a cat": "object", "a dog": "object", "noto style": "style", "a red": "background"}
    concepts = tuple(Concept(p.removeprefix("a "), p, k, k) for p, k in kinds.items())
    return replace(tiny, vocabulary=Vocabulary(concepts, frozenset()))


def words(lines):
    return [(line.prompt, line.neutral) for line in lines]


def test_a_style_is_asked_for_alone_and_then_on_one_object_after_the_other(tiny):
    model, config = taught(tiny), replace(CONFIG, from_objects="styles")
    lines = asked(model, Target("noto style"), config, [5, 6, 7, 8])
    alone, *dressed = words(lines)
    assert [line.seed for line in lines] == [5, 6, 7, 8]
    assert alone == ("noto style", "")
    assert dressed[0] != dressed[1] and dressed[2] == dressed[0]  # two objects take turns
    assert set(dressed) == {(f"{o} in noto style", o) for o in ("a cat", "a dog")}
    assert words(asked(model, Target("red"), config, [0] * 3)) == [("red", "")] * 3


@pytest.mark.parametrize("target", [CAT, Target("noto style", erase_from="a dog"), Target("x")])
def test_what_is_no_style_or_has_its_context_is_asked_for_as_it_is(tiny, target):
    config = replace(CONFIG, from_objects="styles")
    plain = [(target.erase_from or target.concept, "")] * 3
    for model in (taught(tiny), tiny):
        assert words(asked(model, target, config, [0] * 3)) == plain
    assert words(asked(taught(tiny), Target("noto style"), CONFIG, [0] * 2)) == [("noto style", "")] * 2


def test_in_a_picture_of_an_object_nothing_is_the_object(tiny):
    model, config = taught(tiny), replace(CONFIG, from_objects="styles", trajectories=2, held_out=1)
    target = Target("noto style")
    config = replace(config, concepts=(target,))
    examples = finish(draw(Teacher(model, config), torch.Generator()))
    asks = asked(model, target, config, [0] * 3)
    lines = [examples.train[0][torch.arange(10) % 2 == i] for i in range(2)]
    for drawn, ask in zip([*lines, examples.held_out], asks, strict=True):
        assert len(drawn) == config.num_inference_steps
        assert_fresh(model, drawn, ask.neutral, ask.prompt, ask.neutral, ask.prompt)


# --- sets -------------------------------------------------------------------------------------


def test_sets_are_indexed_and_joined_field_by_field(tiny):
    drawn = walked(tiny, RED_DOG, CONFIG, [1, 2], tiny.unet)
    again = Pairs.cat([drawn[:3], drawn[3:]])
    for name in Pairs.__dataclass_fields__:
        assert torch.equal(getattr(again, name), getattr(drawn, name))
    assert again != drawn and drawn == drawn  # `==` asks for the same object
    assert RED_DOG.erase_from and again.centre is again.frozen  # what was one tensor is one
    third = drawn[torch.tensor([2])]
    assert len(third) == 1 and torch.equal(third.concept[0], drawn.concept[2])


def test_neighbours_of_what_is_erased_are_held(emoji):
    model = emoji
    config = EraseConfig(["a cat", "a church"])
    found = prompts_to_hold(model, config)
    assert len(found) == len(set(found)) == HELD and "" in found
    near = {n.phrase for c in ("cat", "church") for n in neighbours(model, model.vocabulary.find(c), 5)}
    assert near <= set(found) and not {"a cat", "a church"} & set(found)
    assert held(model, config) == found
    found = prompts_to_hold(model, EraseConfig("noto style"))
    styles = {c.phrase for c in model.vocabulary.of_kind("style")}
    assert styles - set(found) == {"noto style"}  # the word "style" is not what is erased
    assert set(held(model, EraseConfig("a cat", preserve_prompts=["a dog"]))) == {"a dog"}


def test_neighbours_are_of_one_kind_and_the_category_comes_first(emoji):
    model = emoji
    cat = model.vocabulary.find("cat")
    animals = [c for c in model.vocabulary.concepts if c.category == cat.category and c != cat]
    found = neighbours(model, cat, len(animals) + 3)
    assert set(found[: len(animals)]) == set(animals) and "tiger" in [c.name for c in found[:8]]
    assert {c.kind for c in found} == {"object"} and cat not in found
