"""Colours of maps: order, middle and ends."""

import torch
from torch.testing import assert_close

from esd_core.study.heat_maps import channels, diverging, sequential


def test_red_is_positive_blue_negative_and_white_nothing():
    low, middle, high = diverging(torch.tensor([[-2.0, 0.0, 2.0]]), 2.0)[:, 0].T
    assert high[0] > 2 * high[2] and low[2] > 2 * low[0]
    assert_close(middle, torch.ones(3), atol=0.04, rtol=0)


def test_more_is_brighter_and_all_is_clipped():
    drawn = sequential(torch.tensor([[-1.0, 0.0, 0.5, 1.0, 9.0]]), 1.0)
    brightness = drawn.mean(0)[0]
    assert brightness[1] < brightness[2] < brightness[3]
    assert torch.equal(drawn[:, 0, 0], drawn[:, 0, 1])
    assert torch.equal(drawn[:, 0, 3], drawn[:, 0, 4])
    assert sequential(torch.zeros(2, 2), 0.0).isfinite().all()


def test_zero_is_grey_in_a_picture_of_channels():
    drawn = channels(torch.tensor([0.0, 3.0, -9.0, 5.0]).reshape(4, 1, 1))
    assert drawn.flatten().tolist() == [0.5, 1.0, 0.0]
