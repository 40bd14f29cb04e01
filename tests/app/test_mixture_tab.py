"""The Mixture tab: its callbacks as plain functions, against the exact table; once in a browser."""

# The browser's fixtures come from the other browser tests by import.
# ruff: noqa: F811

from __future__ import annotations

import re
from typing import Any

import gradio as gr
import pytest
import torch

from esd_core.plane.mixture import generate, noise, ring
from esd_core.plane.network import MixtureNet, erase_class, trained
from tests.app.test_app_browser import arrive, chromium, expect, page, shoot, url  # noqa: F401
from tests.app.test_looks_browser import violations
from ui.mixture import class_text, question
from ui.mixture import panels as mixture_panels
from ui.mixture import tab as mixture_tab
from ui.mixture.question import ALL, OTHERS, PAST, STAYS, Ends
from ui.server import stream

RING = class_text.PRESETS["Three classes on a ring"]


def draw(**changes: Any) -> mixture_tab.MixtureView:
    looked_at = dict(classes=RING, concept="A", t=400, eta=1.0, guidance_scale=1.0)
    return mixture_tab.draw(**{**looked_at, "prediction": PAST, "networks": None, **changes})


@pytest.fixture(scope="module")
def frozen() -> MixtureNet:
    return trained(ring(), updates=400)


# --- the classes


def test_every_ready_made_list_reads_and_is_centred_where_it_says():
    for text in class_text.PRESETS.values():
        seen = class_text.read(text)
        assert seen.mixture.weights.sum() == pytest.approx(1)
    read = class_text.read(RING)
    assert torch.allclose(read.mixture.means, ring().means, atol=1e-3)
    assert read.middle.norm() < 1e-3 and read.names == ("A", "B", "C")


def test_a_click_adds_a_class_until_there_are_six():
    text = class_text.more(RING, 1.25, -99)
    assert text.splitlines()[3] == "D, 1.25, -6.00, 0.4, 1"
    assert class_text.read(text).names == ("A", "B", "C", "D")
    for _ in range(2):
        text = class_text.more(text, 0, 0)
    with pytest.raises(ValueError, match="6 classes, and no room for more"):
        class_text.more(text, 0, 0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A, 0, 0, 1, 1", "1 classes are described; write 2 to 6"),
        ("A, 0, 0, 1, 1\nB, 0", "'B, 0' is no class; write name, x, y, spread, weight"),
        ("A, 0, 0, 1, 1\nA, 1, 0, 1, 1", "two classes have the same name"),
        ("A, 0, 0, 9, 1\nB, 1, 0, 1, 1", "use a spread from 0.05 to 2"),
        ("A, 0, nan, 1, 1\nB, 1, 0, 1, 1", "x and y must lie from -6 to 6"),
        ("A, 0, 0, 1, inf\nB, 1, 0, 1, 1", "use a weight from 0.01 to 100"),
        (", 0, 0, 1, 1\nB, 1, 0, 1, 1", "a name of 1 to 16 characters"),
    ],
)
def test_classes_that_make_no_sense_are_refused(text: str, sentence: str):
    with pytest.raises(gr.Error, match=re.escape(sentence)):
        draw(classes=text)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(concept="Z"), "no class 'Z'; choose one of: A, B, C"),
        (dict(eta=99), "eta is 99"),
        (dict(t=1000), "t is 1000; use a number from 0 to 999"),
        (dict(guidance_scale=float("nan")), "guidance_scale is nan"),
        (dict(prediction="maybe"), "use stays, all, others or past"),
    ],
)
def test_other_fields_are_refused_by_name(wrong: dict[str, Any], sentence: str):
    with pytest.raises(gr.Error) as refused:
        draw(**wrong)
    assert sentence in refused.value.message


def test_a_name_cannot_bring_html():
    shown = draw(classes=RING.replace("A,", "<b>x,"), concept="<b>x")
    assert "<b>x" not in "".join((shown.status, shown.arrows, shown.samples))


# --- what is drawn


# Share nearest the class and median radius, as tests/test_mixture.py has them.
@pytest.mark.parametrize(
    ("eta", "guidance_scale", "share", "radius"),
    [(0, 1, 0.33, 2.0), (1, 1, 0.08, 4.9), (2, 1, 0.02, 8.1), (1, 3, 0.007, 11.4)],
)
def test_the_exact_table(eta: float, guidance_scale: float, share: float, radius: float):
    erased = draw(eta=eta, guidance_scale=guidance_scale).numbers["erased"]
    assert erased["share"] == pytest.approx(share, abs=0.025)
    assert erased["radius"] == pytest.approx(radius, abs=0.15)


def test_guidance_before_erasing_and_the_data_without_the_class():
    numbers = draw().numbers
    assert numbers["frozen"]["share"] > 0.99 and numbers["frozen"]["far"] < 0.05
    assert numbers["without"]["share"] < 0.01
    assert numbers["without"]["radius"] == pytest.approx(2.0, abs=0.15)


def test_nothing_of_the_answer_is_sent_before_there_is_a_prediction():
    shown = draw(prediction=None)
    assert set(shown.numbers) == {"frozen"} and "Predict first" in shown.samples
    assert "Answer the question" in shown.status and "After, exact" not in shown.samples
    assert "After, exact" in draw().samples


def test_every_picture_says_what_it_shows():
    shown = draw()
    labels = re.findall(r'<svg[^>]* aria-label="([^"]+)"', shown.arrows + shown.samples)
    assert len(labels) == len(set(labels)) == 4
    assert "exact scores, t 400, eta 1, concept A" in labels
    assert "400 samples of A, After, exact, eta 1, guidance 1" in labels


def test_eta_moves_the_target_alone():
    one, two = (re.findall(r'esd-arrows esd-(\w+)" d="([^"]+)"', draw(eta=e).arrows) for e in (1, 2))
    assert [kind for (kind, d), (_, e) in zip(one, two, strict=True) if d != e] == ["target"]


def test_a_slider_samples_only_what_it_changes(monkeypatch: pytest.MonkeyPatch):
    asked, sampled = [], mixture_panels.generate

    def counting(predict: Any, start: torch.Tensor) -> torch.Tensor:
        asked.append(len(start))
        return sampled(predict, start)

    draw()
    monkeypatch.setattr(mixture_panels, "generate", counting)
    draw(t=100)
    assert not asked
    draw(eta=1.7)
    assert asked == [mixture_panels.SAMPLES]
    draw(eta=1.7, guidance_scale=2.0)
    assert asked == [mixture_panels.SAMPLES] * 3


# --- predict first


@pytest.mark.parametrize(("eta", "outcome"), [(-1.0, STAYS), (0.0, ALL), (1.0, PAST), (3.0, PAST)])
def test_the_right_answer_is_read_off_the_samples(eta: float, outcome: str):
    seen = class_text.read(RING)
    ends = Ends(**draw(eta=eta).numbers["erased"])
    assert question.outcome(seen, 0, ends) == outcome


def test_a_wide_class_lets_its_samples_land_on_the_others():
    wide = class_text.PRESETS["A wide concept"]
    ends = Ends(**draw(classes=wide).numbers["erased"])
    assert question.outcome(class_text.read(wide), 0, ends) == OTHERS


def test_each_wrong_answer_has_its_own_reply_and_the_right_one_is_told_so():
    replies = {chosen: draw(prediction=chosen).status for chosen in (STAYS, ALL, OTHERS, PAST)}
    assert "Right." in replies[PAST] and "esd-good" in replies[PAST]
    wrong = [text for chosen, text in replies.items() if chosen != PAST]
    assert all("Not so." in text for text in wrong) and len(set(wrong)) == 3
    assert "what training without A would give" in replies[OTHERS]
    assert "too weak" in draw(prediction=PAST, eta=0.0).status


def test_the_question_is_asked_anew_when_the_classes_change():
    names, known, asked, now = mixture_tab.follow(RING.replace("B,", "Z,"), "B", (RING, "B"))
    assert names.choices == [("A", "A"), ("Z", "Z"), ("C", "C")] and names.value == "A"
    assert known == mixture_tab.OWN and asked.value is None
    assert now == (RING.replace("B,", "Z,"), "A")
    assert mixture_tab.follow(RING, "B", (RING, "A"))[1] == mixture_tab.FIRST


def test_a_list_that_only_loses_the_focus_leaves_the_answer():
    assert mixture_tab.follow(RING, "B", (RING, "B")) == (stream.SKIP,) * 4


# --- the network


def test_erasing_a_class_from_a_network_reaches_the_exact_target(frozen: MixtureNet):
    before = {n: p.clone() for n, p in frozen.state_dict().items()}
    *_, (edited, loss) = erase_class(frozen, 0, 1.0)
    start, mixture = noise(1000, torch.Generator().manual_seed(3)), ring()
    ends = [generate(net.guided(0, 1.0), start) for net in (frozen, edited.requires_grad_(False))]
    shares = [(mixture.nearest(x) == 0).double().mean().item() for x in ends]
    assert shares[0] > 0.9 and shares[1] < 0.2 and loss < 0.1
    others = generate(edited.guided(1, 1.0), start)
    assert (mixture.nearest(others) == 1).double().mean() > 0.9
    assert all(torch.equal(before[n], p) for n, p in frozen.state_dict().items())
    assert not list(erase_class(frozen, 0, 1.0, updates=0))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_tab, "FIT", 30)
    monkeypatch.setattr(mixture_tab, "ERASE", 10)
    mixture_tab.LEARNED.clear()


def test_training_streams_and_ends_with_a_network(short: None):
    fields = dict(classes=RING, concept="A", t=400, eta=1.0, guidance_scale=1.0)
    moments = list(mixture_tab.train(**fields))
    assert len(moments) == 41 and "update 1 of 30" in moments[0].status
    learned = moments[-1].networks
    page = draw(networks=learned)  # as the page asks for, at the end
    assert "After, by the network" in page.samples and "others" in page.numbers
    assert "Learned by a network" in page.arrows and learned.edited is not None
    assert len(list(mixture_tab.train(**fields))) == 11  # the classes are known by now
    assert "press the button again for η = 2" in draw(eta=2.0, networks=learned).arrows
    assert "Nothing learned yet" in draw(concept="B", networks=learned).arrows
    assert "learned" not in draw(prediction=None, networks=learned).numbers


def test_few_networks_are_kept(short: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mixture_tab, "KEPT", 1)
    for text in (RING, class_text.PRESETS["A wide concept"]):
        list(mixture_tab.train(classes=text, concept="A", t=400, eta=1.0, guidance_scale=1.0))
    assert list(mixture_tab.LEARNED) == [class_text.PRESETS["A wide concept"]]


# --- in a browser


@pytest.mark.browser
def test_a_student_predicts_sees_and_trains(page, url: str, short: None):
    arrive(page, f"{url}/?__theme=dark")
    page.get_by_role("tab", name="Mixture").click()
    expect(page, "#mixture-result .esd-note", "Answer the question")
    page.get_by_label("On the other classes").check()
    expect(page, "#mixture-result .esd-note", "what training without A would give")
    page.get_by_label("range slider for Erasing strength").last.focus()
    page.keyboard.press("ArrowRight")
    expect(page, "#mixture-result", "η = 1.1")
    page.keyboard.press("Control+Enter")
    expect(page, "#mixture-result", "After, by the network")
    assert violations(page) == []
    page.locator("#mixture-result svg.esd-plane").first.click(position={"x": 40, "y": 60})
    expect(page, "#mixture-result .esd-note", "Answer the question")
    assert page.locator("#mixture-result svg.esd-plane").first.locator(".esd-class").count() == 4
    shoot(page, "9-mixture-1440-dark")
    page.get_by_role("button", name="The classes").click()
    page.get_by_label("One per line").fill("A, 0, 0, 0.4, 1")
    page.keyboard.press("Tab")
    expect(page, "body", "1 classes are described; write 2 to 6")
    page.set_viewport_size({"width": 400, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    shoot(page, "9-mixture-400-dark")
