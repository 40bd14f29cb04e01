"""The denoising loop against diffusers' own pipeline, and what every yielded step promises."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from torch.testing import assert_close

from esd_core import config, denoise
from esd_core.exchange.pipelines import load_model
from esd_core.sampling import SCHEDULERS, generate, make_scheduler, noise, sample

PROMPTS = ["a cat", "a red dog"]
SEEDS = [3, 8]
KINDS = ["tiny", "tiny_v"]


@pytest.fixture(params=KINDS)
def model(request):
    return request.getfixturevalue(request.param)


def last(model, prompts, **options):
    *_, step = sample(model, prompts, **options)
    return step


def in_diffusers(model, scheduler, **options):
    """The final latents of `StableDiffusionPipeline` from the same noise."""
    pipeline = model.to_pipeline()
    pipeline.scheduler = make_scheduler(model, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        latents=noise(model, SEEDS), output_type="latent", num_inference_steps=10, **options
    ).images


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("negative", ["", "a dog"])
def test_the_loop_is_that_of_diffusers(model, scheduler, negative):
    ours = last(
        model,
        PROMPTS,
        seeds=SEEDS,
        negative_prompt=negative,
        guidance_scale=5.0,
        num_inference_steps=10,
        scheduler=scheduler,
    ).latents
    theirs = in_diffusers(
        model, scheduler, prompt=PROMPTS, negative_prompt=[negative] * 2, guidance_scale=5.0
    )
    assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


# --- a folder that keeps its scheduler as it was built -----------------------------------------


@pytest.fixture(
    scope="module",
    params=[EulerDiscreteScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler, PNDMScheduler],
)
def freshly_built(tiny, request, tmp_path_factory):
    """`tiny` saved with another scheduler on the same betas, whose other options nobody chose: as we load
    it, and as diffusers does."""
    betas = {key: tiny.scheduler.config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    folder = tmp_path_factory.mktemp("saved") / request.param.__name__
    replace(tiny, scheduler=request.param(**betas)).to_pipeline().save_pretrained(folder)
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return load_model(str(folder), device="cpu"), pipeline


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_options_that_a_folder_did_not_choose_are_those_of_stable_diffusion(tiny, freshly_built, scheduler):
    model, pipeline = freshly_built
    options = dict(seeds=SEEDS, guidance_scale=5.0, num_inference_steps=10, scheduler=scheduler)
    ours = last(model, PROMPTS, **options).latents
    if type(pipeline.scheduler).__name__ == SCHEDULERS[scheduler]:  # then they are the pipeline's
        asked = dict(latents=noise(tiny, SEEDS), guidance_scale=5.0, num_inference_steps=10)
        theirs = pipeline(PROMPTS, output_type="latent", **asked).images
    else:
        spacing = pipeline.scheduler.config.timestep_spacing if scheduler == "dpm++" else "leading"
        usual = DDIMScheduler.from_config(tiny.scheduler.config, timestep_spacing=spacing)
        theirs = last(replace(tiny, scheduler=usual), PROMPTS, **options).latents
    assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert ours.abs().max() > 1.5  # clipped ones end within 1


def test_a_ddim_folder_that_names_only_its_betas_is_not_clipped_either(tiny):
    betas = {key: tiny.scheduler.config[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    plain = replace(tiny, scheduler=DDIMScheduler(**betas))
    options = dict(seeds=SEEDS, num_inference_steps=10)
    assert torch.equal(last(plain, PROMPTS, **options).latents, last(tiny, PROMPTS, **options).latents)


def test_an_option_that_the_folder_chose_is_kept(tiny):
    chosen = dict(timestep_spacing="trailing", set_alpha_to_one=True, steps_offset=0)
    model = replace(tiny, scheduler=DDIMScheduler.from_config(tiny.scheduler.config, **chosen))
    for scheduler in ("ddim", "euler", "dpm++"):
        made = make_scheduler(model, scheduler)
        made.set_timesteps(10)
        assert made.timesteps[0] == 999 and made.config.steps_offset == 0
    assert make_scheduler(model, "ddim").final_alpha_cumprod == 1


def test_pndm_is_refused_where_it_cannot_follow_the_schedule(tiny_v):
    config = DDIMScheduler.from_config(tiny_v.scheduler.config, rescale_betas_zero_snr=True)
    model = replace(tiny_v, scheduler=config)
    with pytest.raises(ValueError, match="pndm.*rescale_betas_zero_snr"):
        generate(model, "a cat", seeds=[0], scheduler="pndm")
    for scheduler in ("ddim", "dpm++", "euler"):
        options = dict(num_inference_steps=4, scheduler=scheduler)
        assert generate(model, "a cat", seeds=[0], **options).isfinite().all()


def test_the_names_of_schedulers_are_those_of_a_config():
    assert tuple(SCHEDULERS) == get_args(config.Scheduler)


# --- steps ------------------------------------------------------------------------------------


def test_every_scheduler_steps_on_integer_timesteps_and_reports_their_noise_level(model):
    for scheduler in SCHEDULERS:
        for step in sample(model, "a cat", seeds=[0], num_inference_steps=7, scheduler=scheduler):
            assert step.t == step.t.long()
            assert step.alpha_bar == model.alpha_bar[step.t.long()]


def test_x_t_is_on_the_training_scale_whatever_the_scheduler(tiny):
    # Euler keeps x_0 + sigma eps with sigma^2 = (1 - alpha_bar) / alpha_bar; the UNet was trained
    # on sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps, the same divided by sqrt(1 + sigma^2).
    x_0, eps = noise(tiny, [1]), noise(tiny, [2])
    solver = make_scheduler(tiny, "euler")
    solver.set_timesteps(10)
    step = next(
        sample(
            tiny,
            "a cat",
            seeds=[0],
            num_inference_steps=10,
            scheduler="euler",
            latents=x_0 + solver.sigmas[0] * eps,
        )
    )
    assert_close(step.x_t, denoise.add_noise(x_0, eps, step.alpha_bar), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_picture_does_not_depend_on_its_batch(tiny, scheduler):
    options = dict(num_inference_steps=5, scheduler=scheduler)
    together = last(tiny, PROMPTS, seeds=SEEDS, **options).latents
    for i in range(2):
        alone = last(tiny, PROMPTS[i], seeds=[SEEDS[i]], **options).latents
        assert_close(alone, together[i : i + 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("cls", [DDPMScheduler, EulerAncestralDiscreteScheduler])
def test_added_noise_does_not_depend_on_the_batch_either(tiny, cls):
    scheduler = cls.from_config(tiny.scheduler.config)
    options = dict(num_inference_steps=5, scheduler=scheduler)
    together = last(tiny, "a cat", seeds=[3, 8, 3], **options).latents
    alone = last(tiny, "a cat", seeds=[8], **options).latents
    assert_close(alone, together[1:2], atol=1e-4, rtol=1e-4)
    assert_close(together[0], together[2], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together[0], together[1], atol=0.1)


def test_added_noise_is_not_the_starting_noise_again(tiny):
    used = []

    class Recording(DDPMScheduler):
        def step(self, *args, generator=None, **kwargs):
            used.extend(g.initial_seed() for g in generator)
            return super().step(*args, generator=generator, **kwargs)

    scheduler = Recording.from_config(tiny.scheduler.config)
    list(sample(tiny, "a cat", seeds=[3, 8], num_inference_steps=2, scheduler=scheduler))
    assert len(set(used)) == 2 and not {3, 8} & set(used)


def test_a_scheduler_instance_is_copied(tiny):
    scheduler = DDPMScheduler.from_config(tiny.scheduler.config)
    list(sample(tiny, "a cat", seeds=[0], num_inference_steps=3, scheduler=scheduler))
    assert scheduler.num_inference_steps is None


def test_the_same_seed_gives_the_same_bits(tiny):
    a, b = (last(tiny, "a cat", seeds=[5], num_inference_steps=3).latents for _ in range(2))
    assert torch.equal(a, b)


def test_every_picture_has_its_own_seed(tiny):
    assert torch.equal(noise(tiny, [7, 9])[1], noise(tiny, [9])[0])
    assert not torch.equal(noise(tiny, [7]), noise(tiny, [9]))


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_one_branch_is_enough_at_guidance_0_and_1(model, scale):
    options = dict(seeds=SEEDS, guidance_scale=scale, num_inference_steps=5)
    pair = last(model, PROMPTS, keep_pair=True, **options)
    single = last(model, PROMPTS, keep_pair=False, **options)
    assert_close(single.latents, pair.latents, atol=1e-4, rtol=1e-4)
    assert pair.eps_null is not None and pair.eps_cond is not None
    assert (single.eps_null is None, single.eps_cond is None) == (scale == 1, scale == 0)


def test_guidance_0_ignores_the_prompt(tiny):
    a, b = (last(tiny, p, seeds=[1], guidance_scale=0.0, num_inference_steps=3) for p in PROMPTS)
    assert_close(a.latents, b.latents)


def test_a_step_is_consistent_with_itself(model):
    for step in sample(model, PROMPTS, seeds=SEEDS, guidance_scale=5.0, num_inference_steps=5):
        guided = denoise.guide(step.eps_null, step.eps_cond, 5.0)
        assert_close(step.eps_guided, guided, atol=1e-4, rtol=1e-4)
        again = denoise.add_noise(step.x_0, step.eps_guided, step.alpha_bar)
        assert_close(step.x_t, again, atol=1e-4, rtol=1e-4)  # x_0 and eps explain x_t


def test_each_ddim_step_adds_its_noise_back_at_the_next_level(model):
    steps = list(sample(model, "a cat", seeds=[0], num_inference_steps=10))
    for step, following in zip(steps, steps[1:], strict=False):
        x_next = denoise.add_noise(step.x_0, step.eps_guided, following.alpha_bar)
        assert_close(step.latents, x_next, atol=1e-4, rtol=1e-4)
        assert following.x_t is step.latents


def test_steps_can_be_skipped_at_both_ends(tiny):
    options = dict(seeds=[0], num_inference_steps=10)
    whole = list(sample(tiny, "a cat", **options))
    head = list(sample(tiny, "a cat", stop_at=4, **options))
    tail = list(sample(tiny, "a cat", start_at=4, latents=head[-1].latents, **options))
    assert [s.step for s in head + tail] == list(range(10))
    assert [s.t for s in head + tail] == [s.t for s in whole]
    assert torch.equal(tail[-1].latents, whole[-1].latents)


def test_another_unet_can_take_the_place_of_the_frozen_one(tiny, tiny_half):
    options = dict(seeds=[0], num_inference_steps=3)
    other = last(tiny, "a cat", unet=tiny_half.unet, **options)
    assert torch.equal(other.latents, last(tiny_half, "a cat", **options).latents)
    assert not torch.equal(other.latents, last(tiny, "a cat", **options).latents)


def test_image_size_sets_the_latents(tiny):
    step = next(sample(tiny, "a cat", seeds=[0], image_size=24, num_inference_steps=2))
    assert step.x_t.shape == (1, 4, 12, 12)


def test_generate_decodes_the_last_latents(tiny):
    images = generate(tiny, PROMPTS, seeds=SEEDS, num_inference_steps=3)
    assert images.shape == (2, 3, 16, 16)
    assert 0 <= images.min() and images.max() <= 1
    latents = last(tiny, PROMPTS, seeds=SEEDS, num_inference_steps=3).latents
    assert_close(images, tiny.decode(latents), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(seeds=[]), "0 prompts for 0 seeds"),
        (dict(prompts=PROMPTS, seeds=[0]), "2 prompts for 1 seeds"),
        (dict(num_inference_steps=0), "num_inference_steps is 0.* 1 to 999"),
        (dict(num_inference_steps=1000), "num_inference_steps is 1000"),
        (dict(scheduler="heun"), "'heun'.*ddim"),
        (dict(image_size=18), "image size 18 .*multiple of 4"),
        (dict(image_size=0), "image size 0"),
        (dict(start_at=-1), "start_at is -1"),
        (dict(stop_at=-2), "stop_at is -2"),
        (dict(prompts="a cat " * 20), "40 tokens.* 10"),
        (dict(guidance_scale=float("nan")), "guidance_scale is nan"),
        (dict(guidance_scale=float("-inf")), "guidance_scale is -inf"),
        (dict(latents=torch.zeros(2, 4, 8, 8)), "2 latents for 1 seeds"),
        (dict(seeds=[-1]), "seed -1 .* 0 to 4294967295"),
        (dict(seeds=[2**32]), "seed 4294967296"),
        (dict(seeds=[-1], latents=torch.zeros(1, 4, 8, 8)), "seed -1"),
    ],
)
def test_bad_arguments_are_named(tiny, options, message):
    arguments = {"prompts": "a cat", "seeds": [0], **options}
    with pytest.raises(ValueError, match=message):
        next(sample(tiny, **arguments))


def test_the_largest_seed_of_other_tools_is_accepted(tiny):
    scheduler = DDPMScheduler.from_config(tiny.scheduler.config)  # draws noise at each step, too
    options = dict(num_inference_steps=2, scheduler=scheduler)
    large, small = (last(tiny, "a cat", seeds=[s], **options).latents for s in (2**32 - 1, 2**31 - 1))
    assert not torch.allclose(large, small, atol=0.1)


def test_pictures_that_are_not_numbers_are_refused(tiny):
    with pytest.raises(ValueError, match="NaN"):
        generate(tiny, "a cat", seeds=[0], guidance_scale=1e38, num_inference_steps=3)


def test_the_most_steps_allowed_do_start(tiny):
    for scheduler in SCHEDULERS:
        options = dict(seeds=[0], num_inference_steps=999, scheduler=scheduler, stop_at=1)
        assert len(list(sample(tiny, "a cat", **options))) == 1


def test_generating_without_a_step_raises(tiny):
    with pytest.raises(ValueError, match="no step"):
        generate(tiny, "a cat", seeds=[0], num_inference_steps=3, start_at=3)
