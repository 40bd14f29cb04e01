"""The Scores and Attention tabs in a real browser: first look, sliders, keyboard."""

# The fixtures come from the other browser tests by import.
# ruff: noqa: F811

from __future__ import annotations

import pytest

from tests.app.test_app_browser import chromium, erase, expect, page, shoot, url  # noqa: F401
from tests.app.test_looks_browser import violations

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
SCORES, ATTENTION = "#scores-result", "#attention-result"


def open_tab(page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    sync_api.expect(page.locator(f"#{name.lower()}-result img").first).to_be_visible()


def test_both_tabs_show_themselves_before_anything_is_erased(page):
    open_tab(page, "Scores")
    expect(page, f"{SCORES} .esd-note", "No erasure yet")
    assert page.locator(f"{SCORES} .esd-scores figure").count() == 8
    assert page.get_by_label("range slider for Stage of training").is_disabled()
    assert violations(page) == []
    open_tab(page, "Attention")
    expect(page, f"{ATTENTION} .esd-note", "only the base model")
    assert page.locator(f"{ATTENTION} figure").count() == 6
    assert violations(page) == []


def test_after_an_erasure_the_sliders_walk_to_the_target(page):
    erase(page, 16)
    expect(page, "#erase-result .esd-note", "Done.")
    open_tab(page, "Scores")
    expect(page, f"{SCORES} .esd-note", "here after 16 updates")
    stage = page.get_by_label("range slider for Stage of training")
    stage.focus()
    for reached in (8, 2):
        page.keyboard.press("ArrowLeft")
        expect(page, f"{SCORES} .esd-note", f"here after {reached} updates")
    eta = page.get_by_label("range slider for Erasing strength")
    eta.focus()
    page.keyboard.press("ArrowRight")
    expect(page, f"{SCORES} .esd-line", "−1.100")
    shoot(page, "6-scores")
    open_tab(page, "Attention")
    expect(page, f"{ATTENTION} figure >> nth=3", "erased")
    shoot(page, "7-attention")


def test_the_keyboard_shows_another_prompt_and_a_wrong_one_is_refused(page):
    open_tab(page, "Scores")
    prompt = page.get_by_role("tabpanel").get_by_label("Prompt")
    prompt.fill("dog")
    page.keyboard.press("Control+Enter")
    expect(page, f"{SCORES} .esd-note", "“a dog”")
    prompt.fill("a zeppelin")
    page.keyboard.press("Control+Enter")
    expect(page, "body", "never seen: zeppelin")
    expect(page, f"{SCORES} .esd-note", "“a dog”")
