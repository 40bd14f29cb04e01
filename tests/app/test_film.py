"""The film strip and the presence curves of a run."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from esd_core import DiffusionModel, card, preset
from esd_core.study.watched_prompts import EMPTY, Watched, to_watch
from ui.erase import curves
from ui.erase import run as live
from ui.erase.pictures import BEFORE, FRAMES, Film

WATCHED = [Watched("the concept", "a cat"), Watched("no words", "")]
PICTURES = torch.zeros(2, 1, 3, 8, 8)


def filmed(iterations: int, update_seconds: float, frame_seconds: float) -> Film:
    film = Film(WATCHED, 1, iterations)
    film.add(BEFORE, PICTURES)
    for i in range(1, iterations):
        if film.due(i, update_seconds, frame_seconds):
            film.add(i, PICTURES)
    film.add(iterations, PICTURES)
    return film


def test_a_short_run_has_five_frames():
    assert list(filmed(16, 0.2, 0.8).frames) == [BEFORE, 4, 8, 12, 16]
    assert list(filmed(2, 1.0, 0.1).frames) == [BEFORE, 1, 2]


@pytest.mark.parametrize("iterations", [100, 1000, 9999])
def test_frames_stay_few_and_at_equal_distances(iterations: int):
    frames = list(filmed(iterations, 0.2, 0.8).frames)
    assert 5 <= len(frames) <= FRAMES and frames[0] == BEFORE and frames[-1] == iterations
    assert len({b - a for a, b in pairwise(frames[1:-1])}) == 1


def test_costly_frames_are_rarer():
    assert list(filmed(16, 0.1, 0.9).frames) == [BEFORE, 8, 16]
    assert list(filmed(16, 0.0001, 10.0).frames) == [BEFORE, 16]


def test_it_says_which_seed_after_how_many_updates():
    html = filmed(16, 0.2, 0.8).html()
    assert 'alt="a cat, seed 1, after 12 updates"' in html and html.count("<img") == 10
    assert 'alt="the empty prompt, seed 1, before"' in html


def test_a_stopped_run_forgets_what_it_drew_after_its_checkpoint():
    film = filmed(16, 0.2, 0.8)
    film.forget_after(9)
    assert list(film.frames) == [BEFORE, 4, 8]


# --- presence


def test_a_model_without_clip_has_no_presence(tiny: DiffusionModel):
    assert curves.judge(tiny) is None
    assert curves.presences(tiny, 0, WATCHED, torch.zeros(2, 2, 3, 16, 16)) == []


def test_the_empty_prompt_is_watched_once():
    assert curves.with_empty(WATCHED) == WATCHED
    assert [w.prompt for w in curves.with_empty(WATCHED[:1])] == ["a cat", ""]


def test_prompts_of_one_role_share_a_curve_and_every_role_keeps_its_row(emoji, monkeypatch):
    class Judge:
        def presence(self, drawn: torch.Tensor, _: object) -> torch.Tensor:
            return drawn.mean()

    monkeypatch.setattr(curves, "judge", lambda _: Judge())
    cat = emoji.vocabulary.find("cat")
    both = [Watched("the concept", "a cat", cat), *[Watched("a concept too", p) for p in ("b", "c")]]
    drawn = torch.tensor([0.6, 0.2, 0.4, 0.9]).reshape(4, 1, 1, 1, 1)
    made = curves.presences(emoji, 4, [*both, Watched("unrelated", "d")], drawn)
    assert made == [(4, pytest.approx(0.4), "the concept"), (4, pytest.approx(0.9), "unrelated")]
    frame = curves.presence_curve(made)
    assert list(frame["prompt"].unique()) == list(curves.COLOURS)
    assert len(frame.dropna()) == 2


def test_what_a_prompt_shows_is_found_in_it(emoji: DiffusionModel):
    shows = [w.shows.name for w in to_watch(emoji, "noto style") if w.shows]
    assert shows[0] == "noto style" and "style" in shows[1]
    config = preset("live", ["a rocket", "a cat"], train_method="esd-x")
    assert [w.shows.name for w in to_watch(emoji, config.concepts)[:2] if w.shows] == ["rocket", "cat"]


def test_a_placed_run_shows_its_edit_before_it_has_examples(emoji: DiffusionModel):
    config = preset("live", "a rocket", iterations=2, seed=77)  # whose examples nobody has kept
    shown = list(live.run(emoji, config, to_watch(emoji, config.concepts)))
    edited = next(i for i, moment in enumerate(shown) if ", after the edit" in str(moment.film))
    assert any("Collecting" in moment.status for moment in shown[edited:])
    curve = shown[-1].presence.dropna().query("prompt == 'the concept'")
    assert list(curve["update"]) == [-1, 0, 2] and curve["presence"].iloc[-1] < curve["presence"].iloc[0] / 2


def test_an_edit_ends_with_its_pictures(emoji: DiffusionModel):
    config = preset("edit", "a rocket")
    *_, last = live.run(emoji, config, to_watch(emoji, config.concepts))
    assert "seed 1, after the edit" in last.film and "seed 1, before" in last.film
    assert last.erasure.is_lora and "Done." in last.status
    weights = sum(t.numel() for t in last.erasure.tensors.values())
    assert "An edit in" in last.status and f"{weights:,} weights" in last.status
    seen = last.presence.dropna().query("prompt == 'the concept'")
    assert list(seen["update"]) == [-1, 0]  # side by side


def test_an_edit_goes_on_at_the_rate_of_live(emoji: DiffusionModel):
    edit = preset("edit", "a rocket")
    assert edit.learning_rate == preset("live", "a rocket").learning_rate
    *_, last = live.run(emoji, edit, to_watch(emoji, edit.concepts))
    assert last.paused is not None
    *_, more = live.go_on(emoji, last.paused, 2)
    was, now = (m.erasure.apply(emoji) for m in (last, more))
    moved = [(now.get_parameter(n) - was.get_parameter(n)).norm() for n in more.erasure.changes]
    whole = [(was.get_parameter(n) - emoji.unet.get_parameter(n)).norm() for n in more.erasure.changes]
    assert sum(moved) > 0.02 * sum(whole)


def test_strengthening_is_not_called_avoiding(emoji: DiffusionModel):
    config = preset("edit", "a rocket", eta=-3)
    *_, last = live.run(emoji, config, to_watch(emoji, config.concepts))
    assert "draw more of “a rocket”" in last.status and "esd-good" not in last.status
    assert "strengthens" in dict(card.rows(last.erasure))["η"]


def test_a_run_shows_film_and_presence_and_erases(emoji: DiffusionModel):
    # Steps large enough for CLIP, which sees a rocket in red things that are none.
    config = preset("live", "a rocket", iterations=16, learning_rate=3e-3, preserve=0.0, train_method="esd-x")
    watched = to_watch(emoji, config.concepts)
    shown = list(live.run(emoji, config, watched))
    points = shown[-1].presence.dropna()
    assert set(points["prompt"]) == {w.role for w in watched} | {EMPTY}
    rocket = points[points["prompt"] == "the concept"].set_index("update")["presence"]
    assert rocket[0] > 0.15 and rocket[16] < rocket[0] / 2
    assert 'a rocket, seed 1, after 16 updates"' in shown[-1].film
