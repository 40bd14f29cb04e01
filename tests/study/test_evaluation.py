"""Intervals against published numbers; verdicts; and one evaluation of the embedded model."""

import pytest
import torch

from esd_core import Probe
from esd_core.erasure import shared_copy
from esd_core.study import intervals
from esd_core.study.evaluation import Change, evaluate
from esd_core.study.questions import Ask, Gallery, asks


@pytest.fixture(scope="module")
def probe(emoji):
    return Probe.of(emoji)


def test_intervals_match_newcombes_examples():
    # Newcombe, Statistics in Medicine 17 (1998): p. 857, 81 of 263; p. 2635, pairs 36, 12, 2, 0.
    assert intervals.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = intervals.paired_change(36, 12, 2, 0)
    assert (-high, -low) == pytest.approx((0.0569, 0.3404), abs=1e-4)


def test_intervals_at_the_edges():
    assert intervals.wilson(0, 0) == (0, 1)
    assert intervals.wilson(0, 20)[0] == 0 and intervals.wilson(20, 20)[1] == 1
    low, high = intervals.paired_change(0, 20, 0, 0)
    assert low == -1 and high < -0.7
    with pytest.raises(ValueError, match="21 of 20"):
        intervals.wilson(21, 20)


def test_bootstrap_covers_the_mean_and_is_repeatable():
    values = torch.randn(200, generator=torch.Generator().manual_seed(0)).tolist()
    low, high = intervals.bootstrap_mean(values)
    assert low < sum(values) / 200 < high and high - low == pytest.approx(4 / 200**0.5, rel=0.25)
    assert (low, high) == intervals.bootstrap_mean(values)
    with pytest.raises(ValueError, match="nothing"):
        intervals.bootstrap_mean([])


def test_a_change_counts_pairs():
    change = Change.count([True, True, False, False, True], [True, False, True, False, True])
    assert change == Change(kept=2, lost=1, gained=1, never=1)
    assert change.before == 0.6 and change.after == 0.6
    told = change.to_dict()
    assert told["change_interval"][0] < 0 < told["change_interval"][1]


@pytest.mark.parametrize(
    "change, gone, spared",
    [
        (Change(0, 40, 0, 0), "gone", "harmed"),
        (Change(40, 0, 0, 0), "not gone", "kept"),
        (Change(0, 4, 0, 0), "inconclusive", "harmed"),  # few pictures: a big fall is still one
        (Change(38, 2, 0, 0), "not gone", "inconclusive"),
        (Change(10, 0, 0, 90), "inconclusive", "inconclusive"),  # the base is too weak to tell
        (Change(0, 0, 0, 0), "inconclusive", "inconclusive"),
    ],
)
def test_verdicts(change, gone, spared):
    assert (change.verdict(erased=True), change.verdict(erased=False)) == (gone, spared)


def test_asks_of_an_object_cover_every_style(probe):
    groups = asks(probe, probe.concept("cat"), 28)
    assert [len(a) for a in groups.values()] == [28, 14, 56, 4]
    prompts = [a.prompt for a in groups["concept"]]
    styles = [c.phrase for c in probe.vocabulary.of_kind("style")]
    assert set(prompts) == {"a cat", *(f"a cat in {s}" for s in styles)}
    shown = {c.name for g in ("neighbours", "others") for a in groups[g] for c in a.shows}
    assert "cat" not in shown
    near = {a.of_kind("object") for a in groups["neighbours"]}
    assert not near & {a.of_kind("object") for a in groups["others"]}
    for group in groups.values():
        assert len({(a.prompt, a.seed) for a in group}) == len(group)


def test_at_least_one_picture_is_asked_for(probe):
    with pytest.raises(ValueError, match="pictures is 0"):
        asks(probe, probe.concept("cat"), 0)


def test_asks_of_a_style_and_a_background_name_many_objects(probe):
    for name, joint in (("noto style", "in noto style"), ("red background", "on a red background")):
        groups = asks(probe, probe.concept(name), 14)
        assert list(groups) == ["concept", "others", "empty prompt"]
        assert all(a.prompt.endswith(joint) for a in groups["concept"])
        assert len({a.of_kind("object") for a in groups["concept"]}) == 14
        assert not any(joint in a.prompt for a in groups["others"])


def test_an_evaluation_of_a_model_that_lost_everything(emoji, probe):
    gallery = Gallery(emoji, num_inference_steps=4)
    blind = shared_copy(emoji.unet, ["conv_out.weight", "conv_out.bias"])  # sees no noise to take away
    with torch.no_grad():
        blind.conv_out.weight.zero_()
        blind.conv_out.bias.zero_()

    def seer(images, wanted):  # an object is a thing on white paper
        return [bool(x[:, :6, :6].mean() > 0.9) for x in images]

    made = evaluate(gallery, probe, "cat", blind, markers={"seer": seer}, pictures=4)
    marks = made.marks["seer"]
    assert set(marks) == {"concept", "neighbours", "others"}
    assert marks["others"].before == 1 and marks["others"].after == 0
    assert made.verdicts("seer")["others"] == "harmed"
    assert all(d.pixels > 0.2 for d in made.distances.values())
    same = evaluate(gallery, probe, "cat", emoji.unet, markers={"seer": seer}, pictures=4)
    assert same.marks["seer"]["others"].lost == 0
    assert all(d.pixels < 1e-4 for d in same.distances.values())


def test_a_gallery_draws_the_base_once(emoji, monkeypatch):
    gallery, drawn = Gallery(emoji, num_inference_steps=2), []
    original = gallery.edited
    monkeypatch.setattr(gallery, "edited", lambda a, u: drawn.append(len(a)) or original(a, u))
    cat = emoji.vocabulary.find("cat")
    first = gallery.base([Ask(0, (cat,)), Ask(1, (cat,))])
    again = gallery.base([Ask(1, (cat,)), Ask(0, (cat,)), Ask(2)])
    assert drawn == [2, 1]
    assert torch.equal(first, again[[1, 0]])
