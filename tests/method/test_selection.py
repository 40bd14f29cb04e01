"""Which parameters each method trains, counted on Stable Diffusion 1.x without its weights."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from esd_core.selection import ALIASES, DESCRIPTIONS, TRAIN_METHODS, canonical, count, select

# Counts of the authors' own rules on the UNet of SD 1.x (859,520,964 parameters).
COUNTS = {
    "esd-x": 43_962_560,
    "esd-x-strict": 19_169_280,
    "esd-lora": 49_536,  # of rank 1: both factors
    "esd-u": 815_358_084,
    "esd-all": 859_320_644,
    "selfattn": 49_574_080,
    "noxattn": 813_495_680,
    "notime": 857_458_240,
    "full": 859_520_964,
    "xlayer": 3_605_760,
    "selflayer": 8_193_920,
}


@pytest.fixture(scope="module")
def sd1() -> UNet2DConditionModel:
    """The UNet of SD 1.x on the meta device: names and shapes, no memory."""
    with torch.device("meta"):
        return UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)


@pytest.mark.parametrize(("method", "expected"), COUNTS.items(), ids=COUNTS)
def test_counts_on_stable_diffusion_1(sd1, method, expected):
    assert count(sd1, method) == expected


def test_every_method_is_counted_and_described():
    assert set(TRAIN_METHODS) == set(COUNTS) == set(DESCRIPTIONS)


def test_esd_x_is_the_linear_layers_of_cross_attention(sd1):
    names = select(sd1, "esd-x")
    assert len(names) == 16 * 5  # 16 blocks; to_q, to_k, to_v without a bias, to_out.0 with one
    assert all(".attn2.to_" in n for n in names)
    strict = [n for n in names if ".to_k." in n or ".to_v." in n]
    assert select(sd1, "esd-x-strict") == strict


def test_esd_x_and_esd_u_split_esd_all(sd1):
    x, u, everything = (set(select(sd1, m)) for m in ("esd-x", "esd-u", "esd-all"))
    assert not x & u
    assert x | u == everything


def test_the_two_meanings_of_esd_u_differ_in_norms_head_and_time(sd1):
    new, old = set(select(sd1, "esd-u")), set(select(sd1, "noxattn"))
    assert {"conv_out.weight", "time_embedding.linear_1.weight"} <= new - old
    assert all("norm" in n for n in old - new)


@pytest.mark.parametrize(("alias", "method"), ALIASES.items(), ids=ALIASES)
def test_aliases_select_what_they_stand_for(sd1, alias, method):
    assert canonical(alias) == method
    assert select(sd1, alias) == select(sd1, method)


def test_names_come_in_the_order_of_named_parameters(sd1):
    assert select(sd1, "full") == [n for n, _ in sd1.named_parameters()]


def test_an_unknown_method_raises_and_lists_the_choices(tiny):
    with pytest.raises(ValueError, match="esd-y") as error:
        select(tiny.unet, "esd-y")
    assert all(name in str(error.value) for name in (*TRAIN_METHODS, *ALIASES))


def test_selecting_nothing_raises():
    with pytest.raises(ValueError, match="esd-x"):
        select(nn.Sequential(nn.Linear(2, 2)), "esd-x")
