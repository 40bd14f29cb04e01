"""Direct edits of keys and values: the algebra, the model it makes, and what it refuses."""

import pytest
import torch
from torch.testing import assert_close

from esd_core import Erasure, card, closed_form_edit, combine, least_squares_edit
from esd_core.denoise import predict
from esd_core.selection import select
from esd_core.study.closed_form import influenced, null_space_edit, orthogonal_edit


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


W, STATES, VALUES, OTHERS = (drawn(3, 8), drawn(2, 8, seed=1), drawn(2, 3, seed=2), drawn(4, 8, seed=3))


def prediction(model, unet, prompt):
    x_t = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    return predict(unet, x_t, torch.tensor(500), model.encode([prompt]))


# --- the algebra ------------------------------------------------------------------------------


def test_one_state_gives_the_rank_one_update():
    c, v = STATES[0], VALUES[0]
    edited = least_squares_edit(W, c[None], v[None], lam=0.5)
    assert_close(edited, W + torch.outer(v - W @ c, c) / (c @ c + 0.5))  # Sherman and Morrison


def test_it_is_the_published_formula():
    p, lam = 2.0, 0.3
    left = VALUES.T @ STATES + p * W @ OTHERS.T @ OTHERS + lam * W
    right = STATES.T @ STATES + p * OTHERS.T @ OTHERS + lam * torch.eye(8).double()
    edited = least_squares_edit(W, STATES, VALUES, preserved=OTHERS, preserve=p, lam=lam)
    assert_close(edited, left @ torch.linalg.inv(right))


def test_no_other_matrix_has_a_smaller_sum():
    def loss(matrix):
        terms = STATES @ matrix.T - VALUES, OTHERS @ (matrix - W).T, matrix - W
        return sum(x.square().sum() * k for x, k in zip(terms, (1, 2.0, 0.3), strict=True))

    edited = least_squares_edit(W, STATES, VALUES, preserved=OTHERS, preserve=2.0, lam=0.3)
    for seed in range(5):
        assert loss(edited) < loss(edited + 0.01 * drawn(3, 8, seed=seed))


def test_without_a_pull_the_values_are_met_and_orthogonal_states_stay():
    edited = least_squares_edit(W, STATES, VALUES, lam=1e-9)
    assert_close(STATES @ edited.T, VALUES, atol=1e-5, rtol=0)
    away = torch.linalg.svd(STATES).Vh[2:]  # orthogonal to both states
    assert_close(away @ edited.T, away @ W.T, atol=1e-5, rtol=0)


def test_independent_preserved_states_stay_exactly():
    edited = least_squares_edit(W, STATES, VALUES, preserved=OTHERS, lam=1e-9)
    assert_close(STATES @ edited.T, VALUES, atol=1e-5, rtol=0)
    assert_close(OTHERS @ edited.T, OTHERS @ W.T, atol=1e-5, rtol=0)


def test_a_strong_pull_changes_nothing():
    assert_close(least_squares_edit(W, STATES, VALUES, lam=1e12), W)


def test_the_prior_filter_keeps_what_an_edit_alone_would_move_most():
    moved = (OTHERS @ (least_squares_edit(W, STATES, VALUES, lam=1.0) - W).T).norm(dim=1)
    kept = influenced(W, STATES, VALUES, OTHERS)
    assert torch.equal(kept, OTHERS[moved > moved.mean()]) and 0 < len(kept) < len(OTHERS)


def test_it_is_speeds_formula_and_keeps_what_has_no_part_in_its_null_space():
    edited = null_space_edit(W, STATES, VALUES, OTHERS, threshold=1e-9)
    kept = influenced(W, STATES, VALUES, OTHERS)
    free = torch.eye(8).double() - torch.linalg.pinv(kept) @ kept
    missed, identity = (VALUES - STATES @ W.T).T @ STATES, torch.eye(8).double()
    published = missed @ free @ torch.linalg.inv(STATES.T @ STATES @ free + identity)
    assert_close(edited, W + published)
    assert_close(kept @ edited.T, kept @ W.T)
    assert not torch.allclose(STATES @ edited.T, STATES @ W.T, atol=0.1)


def test_a_null_space_of_everything_or_of_nothing():
    everything = null_space_edit(W, STATES, VALUES, OTHERS, threshold=1e9)
    assert_close(everything, least_squares_edit(W, STATES, VALUES, lam=1.0))
    assert_close(null_space_edit(W, STATES, VALUES, OTHERS, threshold=-1.0), W)


def test_an_orthogonal_edit_keeps_lengths_and_angles():
    square, kept = drawn(8, 8, seed=4), 0.1 * torch.eye(8).double()
    edited = orthogonal_edit(square, STATES, OTHERS, kept)
    assert_close(edited.T @ edited, square.T @ square)
    assert not torch.allclose(edited, square, atol=0.1)


def test_no_other_orthogonal_matrix_does_better():
    kept, alpha = OTHERS.T @ OTHERS + torch.eye(8).double(), 50.0
    (erased,), (guide,) = (torch.linalg.qr(W @ x[:1].T)[0].T for x in (STATES, OTHERS))

    def aim(turn):
        beyond = erased - guide * (guide @ erased)
        return (turn * (W @ kept @ W.T)).sum() - alpha * erased @ turn @ beyond

    found = orthogonal_edit(W, STATES[:1], OTHERS[:1], kept, alpha) @ torch.linalg.pinv(W)
    for seed in range(50):
        assert aim(found) >= aim(torch.linalg.qr(drawn(3, 3, seed=seed))[0])


def test_the_limits_of_an_orthogonal_edit():
    square, one = torch.eye(8).double(), torch.eye(8).double()[:1]
    assert_close(orthogonal_edit(W, STATES, OTHERS, square, alpha=0.0), W)  # nothing is erased
    assert_close(orthogonal_edit(W, STATES, STATES, square), W)  # it may become what it is
    mirrored = orthogonal_edit(square, one, square[1:2], square, alpha=2.0)
    assert_close(mirrored, square - 2 * one.T @ one)  # a guide at right angles: the mirror image


# --- the model --------------------------------------------------------------------------------


def test_the_edited_model_takes_one_prompt_for_another(tiny):
    edited = closed_form_edit(tiny, {"a cat": "a dog"}, lam=1e-8).apply(tiny)
    wanted = prediction(tiny, tiny.unet, "a dog")
    assert not torch.allclose(prediction(tiny, tiny.unet, "a cat"), wanted, atol=1e-4)
    assert_close(prediction(tiny, edited, "a cat"), wanted, atol=1e-4, rtol=0)


def test_the_empty_prompt_as_meaning_gives_eps_null(tiny):
    edited = closed_form_edit(tiny, {"a cat": ""}, lam=1e-8).apply(tiny)
    wanted = prediction(tiny, tiny.unet, "")
    assert_close(prediction(tiny, edited, "a cat"), wanted, atol=1e-4, rtol=0)


def test_only_keys_and_values_change_and_the_frozen_model_does_not(tiny):
    before = {n: p.clone() for n, p in tiny.unet.named_parameters()}
    erasure = closed_form_edit(tiny, {"a cat": ""})
    assert list(erasure.tensors) == select(tiny.unet, "esd-x-strict")
    edited = dict(erasure.apply(tiny).named_parameters())
    for name, parameter in tiny.unet.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(edited[name], parameter) != (name in erasure.tensors)


def test_preserving_a_prompt_moves_it_less(tiny):
    def moved(**options):
        edited = closed_form_edit(tiny, {"a cat": "blue"}, **options).apply(tiny)
        change = prediction(tiny, edited, "a dog") - prediction(tiny, tiny.unet, "a dog")
        return change.norm().item()

    free, held, held_fast = (
        moved(),
        moved(preserve=["a dog"]),
        moved(preserve=["a dog"], preserve_weight=1e3),
    )
    assert held < 0.5 * free and held_fast < 0.1 * held


def test_it_is_an_erasure_like_any_other(tiny, tmp_path):
    erasure = closed_form_edit(tiny, {"a cat": ""}, preserve=["a dog"], lam=0.2)
    again = Erasure.load(erasure.save(tmp_path / "cat.safetensors"))
    assert again.provenance == erasure.provenance and again.hash == erasure.hash
    assert again.provenance["closed_form"]["edits"] == {"a cat": ""}
    assert again.provenance["closed_form"]["preserve"] == ["a dog"]
    unchanged = erasure.apply(tiny, 0.0)
    assert torch.equal(prediction(tiny, unchanged, "a cat"), prediction(tiny, tiny.unet, "a cat"))
    assert card.concepts(again) == ("a cat",)
    assert card.config_of(again) is None and card.repeatable(again) is None
    combine(tiny, [erasure, closed_form_edit(tiny, {"a rocket": ""})], [1.0, 0.5])


def test_strength_beyond_1_extrapolates_as_eta_does(tiny):
    """Strength 1 + eta maps c onto c_null - eta (c - c_null)."""
    edited = closed_form_edit(tiny, {"a cat": ""}, lam=1e-8).apply(tiny, 1 + 0.5)
    null, concept = tiny.encode(["", "a cat"])
    for name in select(tiny.unet, "esd-x-strict"):
        got = concept @ edited.get_parameter(name).T
        target = (null - 0.5 * (concept - null)) @ tiny.unet.get_parameter(name).T
        assert_close(got, target, atol=1e-4, rtol=0)


def test_a_half_precision_model_can_be_edited(tiny_half):
    erasure = closed_form_edit(tiny_half, {"a cat": ""})
    assert {t.dtype for t in erasure.tensors.values()} == {torch.float32}
    assert {p.dtype for p in erasure.apply(tiny_half).parameters()} == {torch.bfloat16}


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [0, -1, float("nan"), float("inf")])
def test_lam_must_be_positive(tiny, lam):
    with pytest.raises(ValueError, match="above 0"):
        closed_form_edit(tiny, {"a cat": ""}, lam=lam)


@pytest.mark.parametrize(
    ("edits", "options", "message"),
    [
        ({}, {}, "prompt"),
        ({" ": ""}, {}, "prompt"),
        ({"a cat": "a cat"}, {}, "itself"),
        ({"a cat": ""}, {"preserve": ["a cat"]}, "preserved"),
        ({"a cat": ""}, {"preserve_weight": -1}, "0 or more"),
        ({"a cat " * 9: ""}, {}, "shorten it"),
        ("a cat", {}, "prompt"),
        ({"a cat": ""}, {"preserve": "a cat"}, "preserved"),
    ],
)
def test_what_cannot_be_edited(tiny, edits, options, message):
    with pytest.raises(ValueError, match=message):
        closed_form_edit(tiny, edits, **options)


def test_one_text_is_preserved_as_one_prompt(tiny):
    one, listed = (closed_form_edit(tiny, {"a cat": ""}, preserve=p) for p in ("a red dog", ["a red dog"]))
    assert one.provenance["closed_form"] == listed.provenance["closed_form"]
    assert all(torch.equal(one.tensors[name], value) for name, value in listed.tensors.items())


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\(3, 8\).*\(N, 8\) and \(N, 3\)"):
        least_squares_edit(W, STATES, VALUES.T)
