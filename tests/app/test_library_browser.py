"""The Library in a real browser. Screenshots go to outputs/screenshots."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from esd_core import Erasure
from esd_core.exchange import png_parameters
from tests.app.test_app_browser import STATUS, chromium, erase, expect, page, shoot, sync_api, url  # noqa: F401

pytestmark = pytest.mark.browser
LIBRARY = "#library-result .esd-note"


def visit(page, tab: str) -> None:  # noqa: F811
    page.get_by_role("tab", name=tab, exact=True).click()


def download(page, button: str, folder: Path) -> Path:  # noqa: F811
    with page.expect_download() as taken:
        page.get_by_role("button", name=button, exact=True).click()
    path = folder / taken.value.suggested_filename
    taken.value.save_as(path)
    return path


def attach(page, accordion: str, box: str, path: Path) -> None:  # noqa: F811
    page.get_by_role("button", name=accordion).click()
    page.locator(f"{box} input[type=file]").set_input_files(path)


def test_two_erasures_are_kept_inspected_taken_away_and_opened_again(page, tmp_path: Path):  # noqa: F811
    erase(page, 2)
    expect(page, STATUS, "Done.")
    page.fill("#concept input", "dog")
    page.keyboard.press("Tab")
    erase(page, 3)
    expect(page, STATUS, "avoid “a dog”")
    visit(page, "Library")
    sync_api.expect(page.locator("#library-list input[type=radio]")).to_have_count(2)
    expect(page, LIBRARY, "In use: “a dog”")
    page.get_by_label("a cat (esd-lora, 2 updates, this session)").check()
    expect(page, LIBRARY, "In use: “a cat”")
    expect(page, "#library-result .esd-card", "2 of 2, in")
    shoot(page, "6-library")
    path = download(page, "Download the erasure", tmp_path)
    assert Erasure.load(path).provenance["iterations_done"] == 2
    assert "# Erased: a cat" in download(page, "Card as Markdown", tmp_path).read_text()
    attach(page, "Open a file", "#library-open", path)
    sync_api.expect(page.locator("#library-list input[type=radio]")).to_have_count(3)
    expect(page, "#library-result .esd-card", "a file")


def test_a_saved_picture_restores_the_fields(page, tmp_path: Path):  # noqa: F811
    erase(page, 2)
    expect(page, STATUS, "Done.")
    visit(page, "Compare")
    page.get_by_label("Prompts").fill("a dog")
    page.get_by_label("Seeds").fill("7")
    page.click("#compare-run")
    expect(page, "#compare-result .esd-note", "same noise")
    drawn = page.locator(".esd-table img[alt='a dog, seed 7, erased at strength 1']")
    source = drawn.get_attribute("src")
    saved = tmp_path / "saved.png"
    saved.write_bytes(base64.b64decode(source.partition(",")[2]))
    left = page.locator("#compare-slider img").first.get_attribute("src")
    kept = tmp_path / "slider.png"
    kept.write_bytes(page.request.get(left).body())
    assert png_parameters.read(kept).seeds == (7,)  # Gradio keeps the chunks of what it serves
    page.reload()
    page.wait_for_selector("#erase-run")
    visit(page, "Library")
    attach(page, "Restore settings from a picture", "#library-restore", saved)
    expect(page, "body", "press Erase to make its erasure again")
    shoot(page, "7-restored")
    visit(page, "Compare")
    sync_api.expect(page.get_by_label("Prompts")).to_have_value("a dog")
    sync_api.expect(page.get_by_label("Seeds")).to_have_value("7")
    visit(page, "Erase")
    sync_api.expect(page.get_by_label("Iterations")).to_have_value("2")


def test_a_picture_that_is_none_is_refused(page, tmp_path: Path):  # noqa: F811
    visit(page, "Library")
    (tmp_path / "a.png").write_bytes(b"no picture")
    attach(page, "Restore settings from a picture", "#library-restore", tmp_path / "a.png")
    expect(page, "body", "a.png is not a readable PNG file")
