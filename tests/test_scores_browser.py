"""The Scores and Attention tabs in a real browser: first look, sliders, keyboard, widths, axe."""

# The fixtures come from the other browser tests by import.
# ruff: noqa: F811

from __future__ import annotations

import pytest

from tests.test_app_browser import chromium, erase, expect, page, shoot, url  # noqa: F401

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCORES, ATTENTION = "#scores-result", "#attention-result"
LOOKS = [(1440, "light"), (900, "dark"), (400, "light"), (400, "dark")]


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    sync_api.expect(page.locator(f"#{name.lower()}-result img").first).to_be_visible()


def violations(page) -> list[str]:
    """What axe-core reports of the whole page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{v['id']}: {[n['html'][:120] for n in v['nodes']]}" for v in found]


def test_both_tabs_show_themselves_before_anything_is_erased(page):
    open_tab(page, "Scores")
    expect(page, f"{SCORES} .esd-note", "No erasure yet")
    assert page.locator(f"{SCORES} .esd-scores figure").count() == 8
    assert page.get_by_label("range slider for Stage of training").is_disabled()
    open_tab(page, "Attention")
    expect(page, f"{ATTENTION} .esd-note", "only the base model")
    assert page.locator(f"{ATTENTION} figure").count() == 6


def test_after_an_erasure_the_sliders_walk_to_the_target(page):
    erase(page, 16)
    expect(page, "#erase-result .esd-note", "Done.")
    open_tab(page, "Scores")
    expect(page, f"{SCORES} .esd-note", "after 16 of 16 updates")
    stage = page.get_by_label("range slider for Stage of training")
    stage.focus()
    for reached in (8, 4):
        page.keyboard.press("ArrowLeft")
        expect(page, f"{SCORES} .esd-note", f"after {reached} of 16 updates")
    eta = page.get_by_label("range slider for Erasing strength")
    eta.focus()
    page.keyboard.press("ArrowRight")
    expect(page, f"{SCORES} .esd-line", "−1.100")
    page.locator(f"{SCORES}").evaluate("e => e.scrollIntoView()")
    assert violations(page) == []
    shoot(page, "6-scores")
    open_tab(page, "Attention")
    expect(page, f"{ATTENTION} figure >> nth=3", "erased")
    assert violations(page) == []
    shoot(page, "7-attention")


def test_the_keyboard_shows_another_prompt_and_a_wrong_one_is_refused(page):
    open_tab(page, "Scores")
    prompt = page.get_by_role("tabpanel").get_by_label("Prompt")
    prompt.fill("dog")
    page.keyboard.press("Control+Enter")
    expect(page, f"{SCORES} .esd-note", "“a dog”")
    prompt.fill("a zeppelin")
    page.keyboard.press("Control+Enter")
    expect(page, "body", "the model has never seen: zeppelin")
    expect(page, f"{SCORES} .esd-note", "“a dog”")


@pytest.mark.parametrize(("width", "look"), LOOKS)
def test_it_fits_and_axe_finds_nothing(page, url: str, width: int, look: str):
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(f"{url}/?__theme={look}")
    page.wait_for_selector("#erase-run")
    for name in ("Scores", "Attention"):
        open_tab(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shoot(page, f"8-{name.lower()}-{width}-{look}")
        assert violations(page) == []
