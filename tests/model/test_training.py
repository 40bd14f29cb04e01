"""The stages of `make model`, on models that take milliseconds."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn

from tools import checkpoint, data, growing, judge, latents, train_clip, train_unet, train_vae
from tools.training import Stage


@pytest.fixture(scope="module")
def before(tmp_path_factory) -> Path:
    """A folder with an untrained model like the third version: 64 pixels, 4 latent channels."""
    folder = tmp_path_factory.mktemp("before")
    torch.manual_seed(1)
    unet = train_unet.build_model().config
    UNet2DConditionModel.from_config(
        unet, in_channels=4, out_channels=4, mid_block_type="UNetMidBlock2DCrossAttn"
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32, 64, 96),
        layers_per_block=1,
        norm_num_groups=16,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        mid_block_add_attention=False,
    ).save_pretrained(folder / "vae")
    return folder


def stage(folder, updates):
    """A small network and what a stage needs to train it on seeded noise."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return Stage("toy", torch.optim.AdamW(model.parameters(), 1e-2), updates, folder, model=model)


def loss_of(model):
    def loss(step):
        x = torch.randn(16, 4, generator=checkpoint.step_generator(7, step))
        return (model(x) - x.prod(1, keepdim=True)).square().mean()

    return loss


def test_a_stage_that_was_interrupted_ends_bit_for_bit_like_one_that_was_not(tmp_path):
    whole = stage(tmp_path / "whole", 12)
    assert list(whole.train(loss_of(whole.parts["model"]))) == list(range(1, 13))
    cut = stage(tmp_path / "cut", 12)
    for made in cut.train(loss_of(cut.parts["model"])):
        if made == 5:
            cut.save()
        if made == 7:  # dies with two updates that no checkpoint holds
            break
    again = stage(tmp_path / "cut", 12)
    assert again.step == 5
    list(again.train(loss_of(again.parts["model"])))
    for a, b in zip(whole.parts["model"].parameters(), again.parts["model"].parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_record_counts_the_seconds_of_all_sittings(tmp_path):
    first = stage(tmp_path, 3)
    first.clock.before = [100.0, 50.0]
    list(first.train(loss_of(first.parts["model"])))
    second = stage(tmp_path, 4)
    list(second.train(loss_of(second.parts["model"])))
    second.record(psnr=30.5)
    record = json.loads((tmp_path / "stage.json").read_text())
    assert record["updates"] == 4 and record["psnr"] == 30.5
    assert record["seconds"] >= 100 and record["processor seconds"] >= 50


@pytest.fixture
def drawings():
    """A red square in the middle of every drawing, in all objects and styles (one in memory)."""
    square = torch.zeros(4, 16, 16, dtype=torch.uint8)
    square[[0, 3], 4:12, 4:12] = 255
    return square.expand(len(train_clip.PHRASES[0]), 6, 4, 16, 16)


def test_a_picture_has_128_pixels_its_background_and_its_drawing(drawings):
    labels = torch.tensor([[0, 0, -1], [5, 3, 4]])
    pictures = data.compose(drawings, labels, torch.Generator().manual_seed(0), jitter=0)
    assert pictures.shape == (2, 3, 128, 128)
    assert torch.allclose(pictures[0, :, 2, 2], torch.ones(3))
    blue = torch.tensor(data.BACKGROUNDS["blue"]) / 255
    assert torch.allclose(pictures[1, :, 2, 2], blue)
    assert torch.allclose(pictures[:, :, 64, 64], torch.tensor([1.0, 0, 0]), atol=1e-6)
    # Half the width of a drawing that fills 87 % of the picture.
    assert (pictures[0, 1, 64] < 0.5).sum().item() == pytest.approx(0.87 * 64, abs=2)


def test_shrink_keeps_what_is_small_and_averages_what_is_large():
    small, large = torch.rand(1, 3, 64, 64), torch.full((1, 3, 128, 128), 0.25)
    assert data.shrink(small) is small
    assert torch.allclose(data.shrink(large), torch.full((1, 3, 64, 64), 0.25))


def test_the_judge_marks_large_pictures_as_it_marks_them_shrunk():
    marker, pictures = judge.load_judge(), torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        large, small = marker(pictures), marker(data.shrink(pictures))
    assert all(torch.equal(large[name], small[name]) for name in judge.HEADS)


def test_crops_are_squares_of_the_picture():
    x = torch.arange(2 * 3 * 128 * 128).float().view(2, 3, 128, 128)
    parts = train_vae.crop(x, 64, torch.Generator().manual_seed(1))
    assert parts.shape == (2, 3, 64, 64)
    for whole, part in zip(x, parts, strict=True):
        (i, j), *_ = (whole[0] == part[0, 0, 0]).nonzero().tolist()
        assert torch.equal(part, whole[:, i : i + 64, j : j + 64])


def test_the_autoencoder_maps_128_pixels_to_the_grid_of_16():
    vae = train_vae.build_model()
    with torch.no_grad():
        z = vae.encode(torch.zeros(1, 3, 128, 128)).latent_dist.mean
        assert z.shape == (1, 4, 16, 16)
        assert vae.decode(z).sample.shape == (1, 3, 128, 128)


def test_a_group_is_one_object_in_every_style_in_one_place(drawings, monkeypatch):
    vae = train_vae.build_model()
    vae.register_to_config(scaling_factor=2.0)
    monkeypatch.setattr(latents, "CHUNK", 8)
    made = latents.encode_chunk(vae, drawings, 0)
    assert made["latents"].shape == (8, 6, 4, 16, 16)
    assert (made["labels"][:, :, [0, 2]] == made["labels"][:, :1, [0, 2]]).all()
    assert made["labels"][0, :, 1].tolist() == list(range(6))
    for one, other in pairwise(made["latents"].float().unbind(1)):  # all drawings are the same here
        assert torch.allclose(one, other, atol=2e-3)


def test_the_paired_loss_equals_hand_arithmetic():
    # One latent number a picture. x_0 is 1 and 3, eps 0.5, SNR 4: x_t of the first is also the
    # second noised by 0.5 + 2 (1 - 3) = -3.5, and of the second the first noised by 4.5.
    x_0 = torch.tensor([1.0, 3.0])[:, None, None, None]
    eps, snr = torch.full((2, 1, 1, 1), 0.5), torch.tensor([4.0, 4.0])
    predicted = torch.tensor([1.5, 2.5])[:, None, None, None]
    named = torch.tensor([1.0, 0.0])  # the second caption names no style: nothing to push from
    loss = train_unet.paired_loss(predicted, eps, x_0, snr, named, contrast=0.05)
    first = (1.5 - 0.5) ** 2 - 0.05 / (1 + 4) * (1.5 + 3.5) ** 2
    second = (2.5 - 0.5) ** 2
    assert loss.item() == pytest.approx((first + second) / 2)
    # Above gamma the weight is gamma / SNR.
    loss = train_unet.paired_loss(predicted, eps, x_0, 5 * snr, named * 0, contrast=0.05)
    assert loss.item() == pytest.approx((1 + 4) / 2 * 5 / 20)


def test_the_other_style_noised_by_its_own_eps_is_the_same_x_t():
    scheduler, t = train_unet.build_scheduler(), torch.tensor([300, 300])
    x_0, eps = torch.randn(2, 8, 4, 4), torch.randn(1, 8, 4, 4).repeat(2, 1, 1, 1)
    snr = train_unet.compute_snr(scheduler, t)
    eps_other = eps + snr.sqrt()[:, None, None, None] * (x_0 - x_0.flip(0))
    x_t, again = (scheduler.add_noise(a, e, t) for a, e in ((x_0, eps), (x_0.flip(0), eps_other)))
    assert torch.allclose(x_t, again, atol=1e-5)


def test_a_unet_that_grew_predicts_as_before_without_the_middle_attention(before):
    torch.manual_seed(0)
    grown = train_unet.build_model()
    assert growing.unet(grown, before / "unet") == []
    x_t, states = torch.randn(1, 4, 16, 16), torch.randn(1, 16, 128)
    old = UNet2DConditionModel.from_pretrained(before / "unet").float()
    old.mid_block.attentions = nn.ModuleList()  # what the grown one leaves out
    old.mid_block.resnets = old.mid_block.resnets[:1]
    with torch.no_grad():
        assert torch.allclose(old(x_t, 500, states).sample, grown(x_t, 500, states).sample, atol=1e-5)


def test_an_autoencoder_that_grew_keeps_what_lies_below_64_pixels(before):
    grown, old = train_vae.build_model(), AutoencoderKL.from_pretrained(before / "vae")
    fresh = growing.vae(grown, before / "vae")
    assert all(
        re.search(r"coder\.conv_in|blocks\.[013]|norm_out|r\.conv_out|up_blocks\.2\.up", n) for n in fresh
    )
    own, given = grown.state_dict(), old.state_dict()
    name = "resnets.0.conv1.weight"
    assert torch.equal(own[f"encoder.down_blocks.2.{name}"], given[f"encoder.down_blocks.1.{name}"])
    for kept in ("encoder.conv_out.weight", "decoder.conv_in.weight", f"decoder.up_blocks.1.{name}"):
        assert kept not in fresh and torch.equal(own[kept], given[kept])


def test_a_grown_autoencoder_learns_the_latents_of_half_the_size(before):
    torch.manual_seed(0)
    grown, old = train_vae.build_model(), AutoencoderKL.from_pretrained(before / "vae")
    growing.vae(grown, before / "vae")
    rgba = torch.randint(0, 255, (1, 1, 4, 144, 144), dtype=torch.uint8).expand(205, 6, -1, -1, -1)
    x = train_vae.crop(torch.rand(4, 3, 128, 128), 64, torch.Generator().manual_seed(1)) * 2 - 1

    def distance() -> float:
        with torch.no_grad():
            wanted = old.encode(data.shrink(x, 32)).latent_dist.mean
            return (grown.encode(x).latent_dist.mean - wanted).square().mean().item()

    first, optimizer = distance(), torch.optim.AdamW(grown.parameters(), 2e-3)
    for step in range(20):
        optimizer.zero_grad()
        train_vae.batch_loss(grown, rgba, step, 2, 64, old).backward()
        optimizer.step()
    assert distance() < 0.8 * first


def test_a_batch_holds_pairs_that_only_the_style_tells_apart():
    trainer = train_unet.Trainer.__new__(train_unet.Trainer)  # without its networks
    generator = torch.Generator().manual_seed(0)
    trainer.labels = latents.group_labels(10, generator)
    trainer.latents = torch.randn(10, 6, 4, 16, 16, generator=generator).half()
    x_0, eps, t, labels = trainer.draw(4, generator)
    assert x_0.shape == eps.shape == (8, 4, 16, 16)
    assert torch.equal(eps[::2], eps[1::2]) and torch.equal(t[::2], t[1::2])
    assert torch.equal(labels[::2, [0, 2]], labels[1::2, [0, 2]])
    assert (labels[::2, 1] != labels[1::2, 1]).all()
    assert [x // 250 for x in t[::2].tolist()] == [0, 1, 2, 3]


def test_naming_is_the_cross_entropy_over_each_kind_and_leaves_white_out():
    counts = [len(p) for p in train_clip.PHRASES]
    labels = torch.tensor([[3, 1, 2], [4, 5, -1]])
    loss = train_clip.naming(torch.zeros(2, sum(counts)), labels)
    wanted = torch.tensor(counts).float().log() * torch.tensor([1, 1, 0.5])
    assert loss.item() == pytest.approx(wanted.sum().item(), rel=1e-5)
