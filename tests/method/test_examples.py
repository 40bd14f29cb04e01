"""Examples that outlive their run."""

from dataclasses import replace

import pytest
import torch

from esd_core.config import EraseConfig, Target
from esd_core.erasing import erase
from esd_core.examples import KeptExamples, collect, origin
from esd_core.sampling import finish

CONFIG = EraseConfig("a cat", iterations=2, num_inference_steps=3, trajectories=2, held_out=1, preserve=1.0)


def first(model, config, **options):
    return next(erase(model, config, **options))


@pytest.mark.parametrize(
    "options",
    [
        dict(eta=3.0),
        dict(train_method="esd-u"),
        dict(learning_rate=1e-4),
        dict(iterations=9),
        dict(batch_size=2),
        dict(preserve=2.0),
        dict(concepts=(Target("a cat", weight=2.0),)),
    ],
    ids=str,
)
def test_a_run_that_only_trains_otherwise_starts_at_once(tiny, options):
    kept = KeptExamples()
    kept.keep(first(tiny, CONFIG).examples)
    other = replace(CONFIG, **options)
    again = first(tiny, other, examples=kept.find(tiny, other))
    own = first(tiny, other)
    assert torch.equal(again.examples.train[0].x_t, own.examples.train[0].x_t)
    assert torch.equal(again.examples.preserve.null, own.examples.preserve.null)
    calls = []
    hook = tiny.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        first(tiny, other, examples=kept.find(tiny, other))
    finally:
        hook.remove()
    assert calls == []  # the teacher was not asked again


@pytest.mark.parametrize(
    "options",
    [
        dict(concepts="a dog"),
        dict(concepts=(Target("a cat", "a red cat"),)),
        dict(seed=1),
        dict(start_guidance=1.0),
        dict(num_inference_steps=4),
        dict(trajectories=3),
        dict(scheduler="dpm++"),
        dict(preserve=0.0),
        dict(held_out=0),
        dict(preserve_prompts=("a dog",)),
    ],
    ids=str,
)
def test_examples_of_something_else_are_neither_found_nor_taken(tiny, options):
    kept = KeptExamples()
    step = first(tiny, CONFIG)
    kept.keep(step.examples)
    other = replace(CONFIG, **options)
    assert kept.find(tiny, other) is None
    with pytest.raises(ValueError, match="another model"):
        first(tiny, other, examples=step.examples)


def test_another_model_has_its_own(tiny):
    kept = KeptExamples()
    kept.keep(first(tiny, CONFIG).examples)
    changed = tiny.with_unet(type(tiny.unet).from_config(tiny.unet.config))
    assert kept.find(changed, CONFIG) is None


@pytest.mark.parametrize("options", [{}, {"preserve": 2.0}], ids=["plain", "preserve"])
def test_examples_collected_beforehand_are_those_that_the_run_draws(tiny, options):
    config = EraseConfig("a cat", iterations=2, num_inference_steps=4, trajectories=2, **options)
    *_, drawn = erase(tiny, config)
    collecting, calls = collect(tiny, config), 0
    for calls, _ in enumerate(collecting, 1):  # noqa: B007
        pass
    assert calls >= 4  # one can stop between any two of the teacher's calls
    *_, given = erase(tiny, config, examples=finish(collect(tiny, config)))
    assert given.erasure.hash == drawn.erasure.hash
    assert given.checkpoint().examples.origin == drawn.examples.origin


@pytest.mark.parametrize("options", [{"x_t_source": "edited"}, {"redraw_every": 1}])
def test_examples_that_follow_the_run_are_not_collected_beforehand(tiny, options):
    assert finish(collect(tiny, EraseConfig("a cat", **options))) is None


def test_another_text_encoder_prediction_type_or_schedule_has_its_own(tiny, tiny_v):
    torch.manual_seed(1)
    other = type(tiny.text_encoder)(tiny.text_encoder.config)
    assert len({origin(m, CONFIG) for m in (tiny, replace(tiny, text_encoder=other), tiny_v)}) == 3
    assert origin(tiny_v, CONFIG) != origin(replace(tiny_v, scheduler=tiny.scheduler), CONFIG)


def test_what_a_run_draws_again_serves_no_other(tiny):
    config = replace(CONFIG, redraw_every=1)
    kept = KeptExamples()
    kept.keep(first(tiny, config).examples)
    assert origin(tiny, config) == "" and kept.find(tiny, config) is None


def test_only_the_last_few_are_kept(tiny):
    kept, configs = KeptExamples(runs=2), [replace(CONFIG, seed=seed) for seed in range(3)]
    for config in configs[:2]:
        kept.keep(first(tiny, config).examples)
    kept.find(tiny, configs[0])  # used: now the other one is the oldest
    kept.keep(first(tiny, configs[2]).examples)
    found = [kept.find(tiny, config) is not None for config in configs]
    assert found == [True, False, True]
