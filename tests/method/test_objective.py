"""The erasing target, equation 6 of the paper, in numbers."""

import pytest
import torch
from torch.testing import assert_close

from esd_core import denoise
from esd_core.objective import erasing_loss, erasing_target, eta_to_official


def normal(seed: int) -> torch.Tensor:
    return torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("eta", "expected"),
    [
        (1.0, 0.0),  # 2 - 1 * (4 - 2)
        (3.0, -4.0),  # 2 - 3 * (4 - 2)
        (0.5, 1.0),  # 2 - 0.5 * (4 - 2)
        (-1.0, 4.0),  # eta -1 asks for the concept itself: 2 + (4 - 2)
    ],
)
def test_the_target_by_hand(eta, expected):
    null, concept = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 4.0)
    assert erasing_target(null, concept, eta).item() == expected


def test_eta_zero_asks_for_the_unconditional_prediction():
    assert torch.equal(erasing_target(normal(0), normal(1), 0.0), normal(0))


def test_a_context_replaces_the_centre_only():
    # context 10, null 2, concept 4, eta 1: 10 - 1 * (4 - 2) = 8
    null, concept, context = (torch.tensor(x) for x in (2.0, 4.0, 10.0))
    assert erasing_target(null, concept, 1.0, context).item() == 8
    # With the concept as its own context the target is *not* the paper's: 4 - (4 - 2) = 2, not 0.
    assert erasing_target(null, concept, 1.0, concept).item() == 2


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.0, 7.5])
def test_the_official_number_is_one_larger_without_a_context(eta):
    null, concept = normal(0), normal(1)
    official = eta_to_official(eta, erase_from=False)
    assert official == eta + 1
    theirs = concept - official * (concept - null)  # esd_sd.py without --erase_from
    assert_close(theirs, erasing_target(null, concept, eta), atol=1e-5, rtol=1e-5)


def test_the_official_number_is_ours_with_a_context():
    assert eta_to_official(2.0, erase_from=True) == 2.0


def test_the_official_default_is_the_papers():
    assert eta_to_official(1.0, erase_from=False) == 2.0


@pytest.mark.parametrize("with_context", [True, False])
def test_the_target_in_v_is_the_target_in_eps_converted(with_context):
    # The weights sum to one (1 + eta - eta; with a context 1 - eta + eta): affine maps commute.
    x_t, alpha_bar = normal(9), torch.tensor(0.3)
    null, concept, context = (normal(i) for i in range(3))
    extra = context if with_context else None

    def eps(v):
        return denoise.to_eps(v, x_t, alpha_bar, "v_prediction")

    in_v = eps(erasing_target(null, concept, 2.0, extra))
    in_eps = erasing_target(eps(null), eps(concept), 2.0, eps(context) if with_context else None)
    assert_close(in_v, in_eps, atol=1e-5, rtol=1e-5)


def test_the_loss_is_the_mean_squared_error():
    # differences 1 and 3: (1 + 9) / 2 = 5
    assert erasing_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0])).item() == 5


def test_gradient_reaches_only_the_edited_prediction():
    null, concept, edited = (normal(i).requires_grad_() for i in range(3))
    target = erasing_target(null, concept, 1.0)
    erasing_loss(edited, target).backward()
    assert null.grad is None and concept.grad is None
    # d/de mean((e - y)^2) = 2 (e - y) / N
    assert_close(edited.grad, 2 * (edited - target).detach() / edited.numel())
