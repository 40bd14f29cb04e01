"""The erasing loop on a tiny model: it learns, it is honest, and the frozen model stays frozen."""

import json
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from esd_core import denoise
from esd_core.config import PRESETS, EraseConfig, Target, preset
from esd_core.erasing import HOLD, DivergenceError, erase, hold_weight
from esd_core.erasure import Erasure, shared_copy
from esd_core.examples import Examples, collect, pick
from esd_core.objective import erasing_target
from esd_core.selection import select

CONFIG = EraseConfig("a cat", iterations=20, learning_rate=5e-3, num_inference_steps=4, trajectories=4)
SHORT = replace(CONFIG, iterations=3)
T = torch.tensor(500)


@pytest.fixture(params=["tiny", "tiny_v"])
def model(request):
    return request.getfixturevalue(request.param)


def finish(model, config, **options):
    """The last step of a run."""
    *_, step = erase(model, config, **options)
    return step


def learned(model, config, **options) -> dict[str, torch.Tensor]:
    return finish(model, config, **options).erasure.tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)


def weights(unet) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in unet.named_parameters()}


def prediction(model, unet, prompt="a cat"):
    x_t = torch.randn((4, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    return denoise.predict(unet, x_t, T, model.encode([prompt])).detach()


# --- what a run does --------------------------------------------------------------------------


def test_the_error_on_examples_never_trained_on_falls_from_one(model):
    errors = [step.held_out_error() for step in erase(model, CONFIG)]
    assert len(errors) == 1 + CONFIG.iterations
    assert errors[0] == pytest.approx(1.0, abs=1e-3)
    assert errors[-1] < 0.5


def test_the_edited_prediction_moves_onto_the_target(tiny):
    unet = finish(tiny, CONFIG).unet
    null, concept = prediction(tiny, tiny.unet, ""), prediction(tiny, tiny.unet)
    target = erasing_target(null, concept, 1.0)
    before = (concept - target).square().mean()
    assert (prediction(tiny, unet) - target).square().mean() < 0.5 * before


def test_before_any_update_the_edited_model_is_the_frozen_one(model):
    step = next(erase(model, CONFIG))
    assert (step.iteration, step.t, step.loss, step.examples_seen) == (0, None, None, 0)
    assert torch.equal(prediction(model, step.unet), prediction(model, model.unet))
    assert all(torch.equal(t, model.unet.get_parameter(n)) for n, t in step.erasure.tensors.items())


def test_the_frozen_model_stays_as_it_is(tiny):
    before, expected = weights(tiny.unet), prediction(tiny, tiny.unet)
    config = replace(SHORT, train_method="full", learning_rate=1e-4, x_t_source="edited")
    assert not torch.equal(prediction(tiny, finish(tiny, config).unet), expected)
    assert all(torch.equal(p, before[n]) for n, p in tiny.unet.named_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in tiny.unet.parameters())
    assert torch.equal(prediction(tiny, tiny.unet), expected)


@pytest.mark.parametrize("method", ["esd-x", "esd-x-strict", "esd-u", "noxattn"])
def test_only_selected_tensors_change(tiny, method):
    step = finish(tiny, replace(SHORT, train_method=method))
    selected = select(tiny.unet, method)
    edited = dict(step.unet.named_parameters())
    assert list(step.erasure.tensors) == selected
    for name, parameter in tiny.unet.named_parameters():
        if name in selected:
            assert edited[name].requires_grad and not torch.equal(edited[name], parameter)
        else:
            assert edited[name] is parameter


def test_steps_count_what_they_used(tiny):
    steps = list(erase(tiny, SHORT))
    assert [s.iteration for s in steps] == [0, 1, 2, 3]
    assert [s.examples_seen for s in steps] == [0, 8, 16, 24]  # batches of 8
    assert all(len(s.t) == 8 and s.loss > 0 for s in steps[1:])
    seconds = [s.seconds for s in steps]
    assert seconds == sorted(seconds) and seconds[0] > 0  # the teacher takes time, too


def test_the_loss_is_that_of_the_step_before_its_update(tiny):
    # With a batch as large as the whole set, the first loss is the frozen model's own error.
    config = replace(SHORT, iterations=1, batch_size=16)
    step = finish(tiny, config)
    drawn = step.examples.train[0]
    assert len(step.t) == len(drawn) == 4 * 4
    target = erasing_target(drawn.null, drawn.concept, config.eta)
    assert step.loss == pytest.approx((drawn.frozen - target).square().mean().item(), rel=1e-3)


def test_eta_scales_the_distance_to_travel(tiny):
    # |target - frozen| = |-(eta + 1) (concept - null)|: eta 3 is twice as far as eta 1, and the
    # squared error four times as large.
    losses = [finish(tiny, replace(SHORT, iterations=1, batch_size=16, eta=eta)).loss for eta in (1, 3)]
    assert losses[1] == pytest.approx(4 * losses[0], rel=1e-3)


@pytest.mark.parametrize("preserve", [0.0, 0.5])
def test_micro_batches_make_the_same_update_with_less_at_once(tiny, preserve):
    def made(**options):
        steps = erase(tiny, replace(SHORT, preserve=preserve, **options))
        first, at_once = next(steps), []
        hook = first.unet.register_forward_pre_hook(lambda _, given: at_once.append(len(given[0])))
        *_, last = steps
        trained, error = at_once[:], last.held_out_error()
        hook.remove()
        assert sum(at_once[len(trained) :]) == 4  # the steps of the one trajectory held out
        assert max(at_once) <= last.run.config.micro_batch_size
        return (last.loss, error), last.erasure.tensors, trained

    loss, tensors, whole = made()
    parts_loss, parts_tensors, parts = made(micro_batch_size=3)
    assert set(whole) == {8} and parts == [3, 3, 2] * len(whole)
    assert parts_loss == pytest.approx(loss, rel=1e-4)
    for name, tensor in tensors.items():
        assert_close(parts_tensors[name], tensor, atol=1e-5, rtol=1e-3)


def test_checkpointed_gradients_are_the_same_and_keep_less(tiny):
    def made(**options):
        steps = erase(tiny, replace(SHORT, **options))
        next(steps)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
            *_, last = steps
        return sum(x.nbytes for x in kept), last.erasure.tensors

    (whole, tensors), (less, again) = made(), made(gradient_checkpointing=True)
    assert less < whole / 2
    for name, tensor in tensors.items():
        assert_close(again[name], tensor, atol=1e-5, rtol=1e-3)
    assert not any(getattr(m, "gradient_checkpointing", False) for m in tiny.unet.modules())


def test_no_iterations_is_the_frozen_model(tiny):
    (step,) = erase(tiny, replace(CONFIG, iterations=0))
    assert torch.equal(prediction(tiny, step.erasure.apply(tiny)), prediction(tiny, tiny.unet))


def test_the_erasure_is_the_edited_model_and_survives_a_file(tiny, tmp_path):
    step = finish(tiny, SHORT)
    edited = Erasure.load(step.erasure.save(tmp_path / "cat.safetensors")).apply(tiny)
    assert torch.equal(prediction(tiny, edited), prediction(tiny, step.unet))


def test_the_erasure_says_how_it_was_made(tiny):
    record = finish(tiny, SHORT).erasure.provenance
    assert json.loads(json.dumps(record))["iterations_done"] == 3
    assert record["model"] == tiny.name
    assert EraseConfig.from_dict(record["config"]) == SHORT
    assert record["versions"]["torch"] == torch.__version__


def test_an_erasure_is_a_copy(tiny):
    run = erase(tiny, SHORT)
    first = next(run).erasure
    before = {n: t.clone() for n, t in first.tensors.items()}
    next(run)
    assert same(first.tensors, before)


# --- reproducing ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_the_same_seed_learns_the_same_numbers(tiny, name):
    config = preset(name, "a cat", iterations=2, num_inference_steps=4)
    first = learned(tiny, config)
    assert same(first, learned(tiny, config))
    assert not same(first, learned(tiny, replace(config, seed=1)))


def test_given_examples_train_like_drawn_ones(tiny):
    config = replace(SHORT, preserve=1.0)
    step = finish(tiny, config)
    again = finish(tiny, config, examples=step.examples)
    assert again.examples is step.examples
    assert same(again.erasure.tensors, step.erasure.tensors)


def test_given_examples_serve_other_settings(tiny):
    examples = next(erase(tiny, SHORT)).examples
    other = replace(SHORT, eta=2.0, train_method="esd-u", learning_rate=1e-3)
    assert same(learned(tiny, other, examples=examples), learned(tiny, other))


# --- stopping ---------------------------------------------------------------------------------


def test_a_step_is_read_before_the_next(tiny):
    run = erase(tiny, SHORT)
    stale = next(run)
    next(run)
    for read in (lambda: stale.unet, lambda: stale.erasure, stale.held_out_error):
        with pytest.raises(RuntimeError, match="step 0"):
            read()


def test_an_abandoned_run_closes_and_keeps_what_was_learned(tiny):
    run = erase(tiny, CONFIG)
    for step in run:
        if step.iteration == 2:
            break
    run.close()
    assert list(run) == []
    assert step.erasure.provenance["iterations_done"] == 2
    assert same(step.erasure.tensors, learned(tiny, replace(CONFIG, iterations=2)))


@pytest.mark.parametrize("bad", ["explosion", "infinity"])
def test_divergence_raises_and_hands_back_finite_weights(tiny, bad):
    config = replace(CONFIG, iterations=50, learning_rate=1.0 if bad == "explosion" else 1e-3)
    with pytest.raises(DivergenceError, match="learning rate") as error:
        for step in erase(tiny, config):
            if bad == "infinity" and step.iteration == 12:
                next(p for p in step.unet.parameters() if p.requires_grad).data.fill_(torch.inf)
    erasure = error.value.erasure
    assert all(t.isfinite().all() for t in erasure.tensors.values())
    erasure.apply(tiny)
    # The weights kept are those of update 0, 10, 20, ...
    done = erasure.provenance["iterations_done"]
    assert done % 10 == 0
    if bad == "infinity":
        assert done == 10
        assert same(erasure.tensors, learned(tiny, replace(config, iterations=10)))


# --- sources of examples ----------------------------------------------------------------------


def test_held_out_trajectories_are_never_trained_on(tiny):
    examples = next(erase(tiny, replace(CONFIG, held_out=2))).examples
    (train,), held = examples.train, examples.held_out
    assert (len(train), len(held)) == (4 * 4, 2 * 4)  # trajectories x steps
    for x_t in held.x_t:
        assert not any(torch.equal(x_t, seen) for seen in train.x_t)


def test_without_held_out_trajectories_there_is_no_error(tiny):
    assert next(erase(tiny, replace(CONFIG, held_out=0))).held_out_error() is None


def test_examples_are_redrawn_when_asked(tiny):
    examples = [s.examples for s in erase(tiny, replace(CONFIG, iterations=5, redraw_every=2))]
    new = [a is not b for a, b in zip(examples, examples[1:], strict=False)]
    assert new == [False, False, True, False, True]  # before updates 3 and 5


def test_what_is_held_is_drawn_once(tiny):
    config = replace(CONFIG, iterations=3, redraw_every=1, preserve=1.0)
    examples = [s.examples for s in erase(tiny, config)]
    assert examples[-1].train is not examples[0].train
    assert all(e.preserve is examples[0].preserve is not None for e in examples)


def test_each_update_of_the_original_draws_its_own(tiny):
    steps = list(erase(tiny, preset("paper", "a cat", iterations=3, num_inference_steps=4)))
    assert [len(s.examples.train) for s in steps] == [0, 1, 1, 1]
    drawn = [s.examples.train[0].x_t for s in steps[1:]]
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    assert [s.examples_seen for s in steps] == [0, 1, 2, 3]


def test_the_edited_models_trajectories_move_away(tiny):
    config = replace(CONFIG, iterations=4, redraw_every=2, learning_rate=2e-2)
    frozen = [s.examples.train[0].x_t for s in erase(tiny, config)]
    edited = [s.examples.train[0].x_t for s in erase(tiny, replace(config, x_t_source="edited"))]
    assert torch.equal(edited[0], frozen[0])  # before any update they are the same model
    assert not torch.allclose(edited[-1], frozen[-1], atol=1e-2)


def test_pictures_can_be_the_source(tiny):
    images = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    steps = list(erase(tiny, replace(SHORT, x_t_source="images"), images=images))
    assert len(steps[0].examples.train[0]) == 4 * 4 and len(steps[0].examples.held_out) == 4
    assert steps[-1].held_out_error() < 1


def test_pictures_and_their_option_go_together(tiny):
    images = torch.rand(1, 3, 16, 16)
    for config, given in ((replace(SHORT, x_t_source="images"), None), (SHORT, images)):
        with pytest.raises(ValueError, match="images"):
            next(erase(tiny, config, images=given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(image_size=18), "image size 18"),
        (dict(concepts="a cat " * 20), "shorten it"),
        (dict(train_method="xlayer"), "xlayer"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(tiny, options, message):
    with pytest.raises(ValueError, match=message):
        next(erase(tiny, replace(CONFIG, **options)))


# --- several concepts, contexts, preservation -------------------------------------------------


def test_a_concept_can_be_erased_from_a_context(tiny):
    config = replace(CONFIG, concepts=Target("red", erase_from="a red dog"))
    steps = erase(tiny, config)
    assert next(steps).held_out_error() == pytest.approx(1.0, abs=1e-3)
    *_, last = ((s.iteration, s.held_out_error()) for s in steps)
    assert last[1] < 0.7


def test_several_concepts_are_erased_at_once(tiny):
    config = replace(CONFIG, concepts=("a cat", "rocket", Target("red", "a red dog")))
    step = next(erase(tiny, config))
    assert [len(d) for d in step.examples.train] == [4 * 4] * 3
    assert len(step.examples.held_out) == 3 * 4
    assert finish(tiny, config).held_out_error() < 0.9


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_with_several_concepts(model, name):
    concepts = ["a cat", Target("red", erase_from="a red dog", weight=2.0)]
    erasure = finish(model, preset(name, concepts, iterations=3, num_inference_steps=6)).erasure
    frozen = {n: model.unet.get_parameter(n) for n in erasure.changes}
    moved = [erasure.value(n, base) - base for n, base in frozen.items()]
    assert any(change.any() for change in moved) and all(change.isfinite().all() for change in moved)


def test_weights_say_how_often_a_concept_is_drawn(tiny):
    config = replace(CONFIG, concepts=("a cat", Target("a dog", weight=3.0)), batch_size=8)
    first, second = next(erase(tiny, config)).examples.train
    tagged = Examples((replace(first, t=first.t * 0), replace(second, t=second.t * 0 + 1)))
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([pick(tagged, config, generator).t for _ in range(50)])
    # 3 / (1 + 3) of 400 draws, standard error sqrt(0.75 * 0.25 / 400) = 0.02
    assert drawn.float().mean().item() == pytest.approx(0.75, abs=0.08)


def test_preservation_holds_other_prompts_in_place(tiny):
    def drift(config):
        unet = finish(tiny, config).unet
        frozen = prediction(tiny, tiny.unet, "a dog")
        return (prediction(tiny, unet, "a dog") - frozen).square().mean().item()

    held = replace(CONFIG, preserve=10.0, preserve_prompts=("a dog",))
    assert drift(held) < 0.5 * drift(CONFIG)


def test_holding_counts_in_proportion_to_the_way_to_the_target(tiny):
    examples = next(erase(tiny, replace(CONFIG, preserve=1.0))).examples
    one = hold_weight(examples, replace(CONFIG, preserve=1.0))
    way = (examples.train[0].frozen - examples.train[0].null).square().mean().item()
    assert one == pytest.approx(HOLD * 4 * way)  # frozen to target: 1 + eta times concept - null
    assert hold_weight(examples, replace(CONFIG, preserve=0.5, eta=3.0)) == pytest.approx(2 * one)


def test_holding_hard_is_no_divergence(tiny):
    assert finish(tiny, replace(CONFIG, preserve=1000.0)).iteration == CONFIG.iterations


# --- precision and prediction type ------------------------------------------------------------


def test_v_prediction_has_the_same_target(tiny_v):
    examples = next(erase(tiny_v, CONFIG)).examples.train[0]
    alpha_bar = tiny_v.alpha_bar[examples.t]

    def eps(output):
        return denoise.to_eps(output, examples.x_t, alpha_bar, "v_prediction")

    in_v = erasing_target(examples.null, examples.concept, 2.0)
    in_eps = erasing_target(eps(examples.null), eps(examples.concept), 2.0)
    assert_close(eps(in_v), in_eps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("method", "rate"), [("esd-x", 5e-3), ("esd-u", 3e-4), ("noxattn", 3e-4), ("full", 3e-4)]
)
@pytest.mark.parametrize("thrifty", [False, True])
def test_half_precision_models_train_float32_tensors(tiny_half, method, rate, thrifty):
    less = dict(micro_batch_size=3, gradient_checkpointing=True) if thrifty else {}
    config = replace(CONFIG, iterations=10, train_method=method, learning_rate=rate, **less)
    before = weights(tiny_half.unet)
    errors = []
    for step in erase(tiny_half, config):
        errors.append(step.held_out_error())
    assert errors[0] == pytest.approx(1.0, abs=0.1) and errors[-1] < 0.9
    trained = step.erasure.tensors
    assert {t.dtype for t in trained.values()} == {torch.float32}
    # finer than bfloat16 can hold: rounding changes them
    assert any(not torch.equal(t, t.bfloat16().float()) for t in trained.values())
    assert all(torch.equal(p, before[n]) for n, p in tiny_half.unet.named_parameters())


def test_a_first_update_that_diverges_leaves_the_frozen_weights(tiny):
    first = next(erase(tiny, CONFIG))
    (drawn,) = first.examples.train
    broken = replace(first.examples, train=(replace(drawn, null=drawn.null * math.inf),))
    with pytest.raises(DivergenceError) as raised:
        list(erase(tiny, CONFIG, examples=broken))
    frozen = dict(tiny.unet.named_parameters())
    tensors = raised.value.erasure.tensors
    assert tensors and all(torch.equal(t, frozen[n]) for n, t in tensors.items())


# --- nothing to erase ---------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "eta"), [(Target("a cat"), -1), (Target("red", "a dog"), 0)], ids=str)
def test_a_target_that_is_the_frozen_prediction_is_refused(tiny, target, eta):
    config = replace(CONFIG, concepts=(target,), eta=eta)
    with pytest.raises(ValueError, match="nothing to erase"):
        next(erase(tiny, config))
    drawn = next(erase(tiny, replace(config, eta=2.0))).examples
    relearned = next(
        erase(tiny, config, examples=replace(drawn, origin=""))
    )  # another model's: something to learn
    assert relearned.held_out_error() is None


@pytest.mark.parametrize("target", [Target("<|endoftext|>"), Target("<|endoftext|>", "a cat")], ids=str)
def test_a_concept_read_as_the_empty_prompt_is_refused_before_the_run(tiny, target):
    with pytest.raises(ValueError, match="empty prompt"):
        next(erase(tiny, replace(CONFIG, concepts=(target,))))


def test_a_model_that_predicts_no_finite_numbers_is_told_as_such(tiny):
    broken = shared_copy(tiny.unet, ["conv_out.bias"])
    with torch.no_grad():
        broken.conv_out.bias.fill_(math.inf)
    with pytest.raises(ValueError, match="not finite") as refused:
        next(erase(tiny.with_unet(broken), CONFIG))
    assert "learning rate" not in str(refused.value)
    with pytest.raises(ValueError, match="not finite"):
        list(collect(tiny.with_unet(broken), CONFIG))
