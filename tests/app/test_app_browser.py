"""The app in a real browser: the newcomer's path, Stop, refusal, keyboard, and no request outside.

Screenshots go to outputs/screenshots.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import app
from esd_core import DiffusionModel, Erasure
from esd_core.sampling import Step, sample
from esd_core.vocabulary import Vocabulary
from tests.app.test_app import CONCEPTS
from tests.conftest import WORDS
from ui.compare import grid
from ui.erase.curves import COLOURS
from ui.server import waiting

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
)
SHOTS = Path("outputs/screenshots")
PATIENCE = 120_000  # ms; a busy machine is slow, not wrong
ROLES = ["the concept", "a neighbour", "unrelated", "no words"]
STATUS = "#erase-result .esd-note"
STOPPED = "what was learned is kept"

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
sync_api.expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser on PATH; looked for {', '.join(BROWSERS)}")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(tiny: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    model = replace(tiny, vocabulary=Vocabulary(CONCEPTS, frozenset(WORDS)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        demo = app.build_demo(model)
        _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
        yield address.rstrip("/")
        demo.close()


@pytest.fixture
def page(chromium, url: str) -> Iterator:
    """The open app, without transitions; fails if it asked anything of another machine or logged an error."""
    page = chromium.new_page(viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE)
    outside, errors = [], []
    page.on("request", lambda r: outside.append(r.url) if not local(r.url, url) else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    arrive(page, url)
    yield page
    page.close()
    assert (outside, errors) == ([], [])


def arrive(page, address: str) -> None:
    """Open the app and wait for its load event: it shows its buttons before it listens to them."""
    with page.expect_response("**/gradio_api/run/predict*"):
        page.goto(address)
    page.wait_for_selector("#erase-run")


def local(address: str, url: str) -> bool:
    return address.startswith((url, "data:", "blob:"))


def shoot(page, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def erase(page, iterations: int) -> None:
    page.get_by_label("Iterations").fill(str(iterations))
    page.click("#erase-run")


def expect(page, selector: str, text: str) -> None:
    sync_api.expect(page.locator(selector)).to_contain_text(text, timeout=PATIENCE)


def expect_updates(page) -> None:
    """Wait until something has been learned: the status counts from update 0."""
    sync_api.expect(page.locator(STATUS)).to_contain_text(
        re.compile(r"update [1-9]\d* of 100000 · "), timeout=PATIENCE
    )


def test_a_newcomer_erases_compares_and_takes_the_file_away(page, tmp_path: Path):
    expect(page, "#erase-cost", "Takes about")
    expect(page, "#erase-cost", "examples 0 s")  # the first click waits for none
    assert page.locator(".esd-strip img[alt$='before']").count() == 6
    shoot(page, "1-open")
    erase(page, 6)
    expect(page, STATUS, "Done.")
    expect(page, "#erase-cost", "6 updates")
    assert page.locator(".esd-film img[alt*='seed 1, after 6 updates']").count() == 4
    assert page.locator(".esd-strip img[alt*='after 6 updates']").count() == 6
    sync_api.expect(page.locator("#erase-result .vega-embed")).to_have_count(2)
    shoot(page, "2-erased")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the erasure").click()
    assert download.value.suggested_filename == "a-cat_esd-lora_6-updates.safetensors"
    download.value.save_as(tmp_path / "kept.safetensors")
    assert Erasure.load(tmp_path / "kept.safetensors").provenance["iterations_done"] == 6

    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Prompts").fill("a cat in noto style\na dog")
    page.click("#compare-run")
    expect(page, "#compare-result .esd-note", "same noise")
    alts = [i.get_attribute("alt") for i in page.locator(".esd-table img").all()]
    assert len(alts) == 12 and "a dog, seed 2, negative prompt" in alts
    sync_api.expect(page.locator("#compare-slider")).to_be_visible()
    page.locator("#compare-pair input").click()
    page.get_by_role("option", name="a dog, seed 2").click()
    expect(page, "#compare-caption", "“a dog”, seed 2: base left")
    sync_api.expect(page.locator("#compare-slider img").last).to_have_attribute(
        "alt", "“a dog”, seed 2, erased"
    )
    shoot(page, "3-compared")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download as one sheet").click()
    assert download.value.suggested_filename == "comparison.png"
    sync_api.expect(page.locator("#compare-result .esd-badges .esd-holds")).to_have_count(3)

    page.get_by_role("button", name="Grid over two knobs").click()
    page.get_by_label("Values across").fill("0, 1")
    page.get_by_label("Values down").fill("a cat; a dog")
    page.keyboard.press("Tab")
    expect(page, "#grid-cost", "4 pictures, about")
    page.click("#grid-draw")
    expect(page, "#grid-status", "4 of 4 pictures")
    sync_api.expect(page.locator("#grid-stop")).to_be_disabled()
    expect(page, "#grid-stop", "Stop")
    shoot(page, "3-grid")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the grid").click()
    assert download.value.suggested_filename == "grid.png"


def test_stop_keeps_what_was_learned_continue_goes_on_and_reset_forgets(page):
    erase(page, 100_000)
    expect_updates(page)
    expect(page, STATUS, " left")
    assert page.is_disabled("#erase-run")
    page.click("#erase-stop")
    expect(page, STATUS, STOPPED)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the erasure").click()
    assert download.value.suggested_filename.endswith("-updates.safetensors")
    page.click("#erase-continue")
    expect(page, STATUS, "of 100000 · ")
    page.click("#erase-stop")
    expect(page, STATUS, STOPPED)
    sync_api.expect(page.locator("#erase-continue")).to_be_enabled()
    assert page.is_disabled("#erase-stop")
    shoot(page, "8-stopped")
    page.click("#erase-reset")
    sync_api.expect(page.locator("#erase-continue")).to_be_disabled()
    expect(page, STATUS, "Press Erase")
    erase(page, 3)
    expect(page, STATUS, "Done.")


def test_stop_frees_the_page_of_a_run_that_waits_in_line(page, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr(waiting, "PLACES", 0)
        erase(page, 3)
        expect(page, STATUS, "Waiting for a place")
        page.click("#erase-stop")
        expect(page, STATUS, "before anything was learned")
    sync_api.expect(page.locator("#erase-run")).to_be_enabled()
    erase(page, 3)
    expect(page, STATUS, "Done.")


def test_a_reload_in_the_middle_of_a_run_ends_it_and_leaves_a_page_to_use(page):
    erase(page, 100_000)
    expect_updates(page)
    assert len(waiting.LINES["run"]) == 1
    with page.expect_response("**/gradio_api/run/predict*"):
        page.reload()
    expect(page, STATUS, "Press Erase")
    sync_api.expect(page.locator("#erase-run")).to_be_enabled()
    assert page.is_disabled("#erase-stop") and page.is_disabled("#erase-continue")
    erase(page, 3)
    expect(page, STATUS, "Done.")
    end = time.monotonic() + PATIENCE / 1000
    while len(waiting.LINES["run"]) and time.monotonic() < end:
        page.wait_for_timeout(100)
    assert len(waiting.LINES["run"]) == 0


def test_control_enter_runs_and_escape_stops_unless_it_closes_a_list_or_leaves_a_field(page):
    page.get_by_label("Iterations").fill("100000")
    page.keyboard.press("Control+Enter")
    expect_updates(page)
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("Scheduler").click()
    sync_api.expect(page.locator("ul[role=listbox]")).to_be_visible()
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("ul[role=listbox]")).not_to_be_visible()
    page.get_by_label("Prompts").fill("a dog")
    page.keyboard.press("Escape")
    sync_api.expect(page.locator("#erase-stop")).to_be_enabled()  # once pressed it is not
    page.get_by_role("tab", name="Compare").focus()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Erase").click()
    expect(page, STATUS, STOPPED)


def test_the_keyboard_runs_the_grid_from_its_fields_compare_from_the_others_and_the_dial(page):
    page.get_by_role("tab", name="Compare").click()
    page.click("#compare-run")
    expect(page, "body", "nothing is erased in this session")
    page.get_by_role("tab", name="Erase").click()
    erase(page, 2)
    expect(page, STATUS, "Done.")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Grid over two knobs").click()
    page.get_by_label("Values down").fill("a cat")
    page.get_by_label("Values across").fill("0, 1")
    page.keyboard.press("Control+Enter")
    expect(page, "#grid-status", "2 of 2")
    assert page.locator(".esd-table img").count() == 0
    page.get_by_role("textbox", name="Prompts One per line").fill("a cat\na dog\na rocket\na red cat")
    dial = page.locator("#strength input[type=range]")
    dial.focus()
    for _ in range(3):  # the second and the third while the first is drawn
        dial.press("ArrowRight")
    sync_api.expect(page.locator(".esd-table img[alt$='erased at strength 1.3']")).to_have_count(8)
    # The dial alone brings out everything that the button does.
    sync_api.expect(page.locator("#compare-slider")).to_be_visible()
    sync_api.expect(page.get_by_role("button", name="Download as one sheet")).to_be_visible()
    page.get_by_role("textbox", name="Prompts One per line").fill("a dog")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator(".esd-table img")).to_have_count(6)


def test_a_word_never_seen_is_named_at_the_field_and_nothing_runs(page):
    page.fill("#concept input", "a zeppelin")
    page.keyboard.press("Control+Enter")
    expect(page, "#concept", "never seen: zeppelin")
    expect(page, STATUS, "Press Erase")
    sync_api.expect(page.locator("#erase-cost")).not_to_be_visible()
    assert page.is_enabled("#erase-run")
    shoot(page, "4-refused")
    page.get_by_label("Iterations").fill("2")
    page.fill("#concept input", "dog")
    page.keyboard.press("Control+Enter")  # the list is open: its first entry is not what is meant
    expect(page, STATUS, "avoid “a dog”")


def test_the_list_follows_a_run_that_ends_while_compare_is_open(page):
    erase(page, 1)
    expect(page, STATUS, "Done.")
    page.get_by_label("Iterations").fill("600")
    page.click("#erase-run")
    page.get_by_role("tab", name="Compare").click()
    sync_api.expect(page.locator(STATUS)).not_to_contain_text("Done.")  # it goes on
    listed, dial = page.locator("#in-use input"), page.locator("#strength input[type=range]")
    expect(page, STATUS, "600 updates in")
    page.click("#compare-run")
    expect(page, "#compare-result .esd-note", ", 600 updates)")
    sync_api.expect(listed).to_have_value(re.compile("600 updates"), timeout=PATIENCE)
    dial.press("ArrowLeft")
    expect(page, "#compare-result .esd-note", ", 600 updates), at strength 0.9")
    sync_api.expect(listed).to_have_value(re.compile("600 updates"))


def slow_steps(*args: object, **options: object) -> Iterator[Step]:
    """As of a larger model, so that there is something left to stop."""
    for step in sample(*args, **options):
        time.sleep(0.03)
        yield step


def test_a_grid_that_is_stopped_says_what_is_left_of_it(page, monkeypatch: pytest.MonkeyPatch):
    erase(page, 2)
    expect(page, STATUS, "Done.")
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Grid over two knobs").click()
    page.get_by_role("button", name="Sampling").click()
    page.get_by_label("number input for Steps").fill("100")
    page.get_by_label("Values across").fill(", ".join("2" * 12))
    page.get_by_label("Values down").fill("a cat; a dog; a rocket")
    monkeypatch.setattr(grid, "sample", slow_steps)
    monkeypatch.setattr(grid, "REFRESH", 1000.0)  # seconds
    page.click("#grid-draw")
    expect(page, "#grid-status", "Picture 1 of 36, step")
    page.click("#grid-stop")
    expect(page, "#grid-status", "Stopped.")
    sync_api.expect(page.locator("#grid-sheet img")).to_have_count(0)
    page.click("#grid-draw")  # at once: the end of the first grid must not reach the second
    expect(page, "#grid-status", "Picture 2 of 36, step")
    page.click("#grid-stop")  # no sheet was due yet, and yet the first picture is not lost
    sync_api.expect(page.locator("#grid-sheet img")).to_have_count(1)
    expect(page, "#grid-status", "Stopped.")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the grid").click()
    assert download.value.suggested_filename == "grid.png"


def test_what_is_refused_after_the_button_was_pressed_gives_the_buttons_back(page):
    erase(page, 2)
    expect(page, STATUS, "Done.")
    page.get_by_label("Iterations").fill("-1")
    page.click("#erase-continue")
    expect(page, STATUS, "Failed before it began")
    sync_api.expect(page.locator("#erase-run")).to_be_enabled()
    sync_api.expect(page.locator("#erase-stop")).to_be_disabled()
    with page.expect_download() as download:  # of the run before, which is as it was
        page.get_by_role("button", name="Download the erasure").click()
    assert download.value.suggested_filename == "a-cat_esd-lora_2-updates.safetensors"
    page.get_by_role("tab", name="Compare").click()
    page.get_by_role("button", name="Grid over two knobs").click()
    page.get_by_label("Values across").fill("nan")
    page.click("#grid-draw")
    expect(page, "body", "'nan' cannot be")
    expect(page, "#grid-status", "Not finished.")
    sync_api.expect(page.locator("#grid-draw")).to_be_enabled()
    sync_api.expect(page.locator("#grid-stop")).to_be_disabled()


def test_the_official_number_follows_its_fields_and_a_preset_fills_the_advanced_ones(page):
    expect(page, "body", "--negative_guidance 2 of")
    page.get_by_label("Erasing strength").fill("1.5")
    expect(page, "body", "--negative_guidance 2.5 of")
    page.get_by_label("Erase it from").fill("a red cat")
    expect(page, "body", "--negative_guidance 1.5 of")
    sync_api.expect(page.get_by_label("Erasing strength")).to_have_value("1.5")
    page.get_by_label("Erasing strength").fill("99")
    expect(page, "body", "--negative_guidance 99 of")
    page.wait_for_timeout(1000)  # the message stays when all that follows a change has happened
    expect(page, "body", "eta is 99")
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Preset").click()
    page.get_by_role("option", name="paper").click()
    sync_api.expect(page.get_by_label("Iterations")).to_have_value("1000")
    sync_api.expect(page.get_by_label("Batch size")).to_have_value("1")
    for field in ("Preset", "What is trained"):  # a list that is left as it was fills in nothing
        page.get_by_label("Iterations").fill("7")
        page.get_by_label(field).click()
        page.mouse.click(5, 5)
        page.wait_for_timeout(1000)
        sync_api.expect(page.get_by_label("Iterations")).to_have_value("7")


def test_fields_of_updates_are_hidden_from_an_edit_and_keep_what_they_hold(page):
    page.get_by_role("button", name="Advanced").click()
    page.get_by_label("Learning rate").fill("0.002")
    page.get_by_label("Iterations").fill("0")
    sync_api.expect(page.get_by_label("Learning rate")).to_be_hidden()
    page.get_by_label("Iterations").fill("3")
    sync_api.expect(page.get_by_label("Learning rate")).to_have_value("0.002")


def test_enter_in_an_emptied_concept_chooses_none(page):
    field = page.locator("#concept input")
    field.fill("")
    field.press("Enter")
    page.wait_for_timeout(500)
    sync_api.expect(field).to_have_value("")


def test_presence_curves_have_their_colours_also_in_the_next_run(
    chromium, emoji: DiffusionModel, tmp_path: Path
):
    """On the embedded model, because presence needs a CLIP."""
    demo = app.build_demo(emoji)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
        _, address, _ = app.launch(demo, prevent_thread_lock=True, quiet=True)
        page = chromium.new_page()
        page.set_default_timeout(PATIENCE)
        arrive(page, address)
        for concept, iterations in (("cat", 1), ("rocket", 2)):
            page.fill("#concept input", concept)
            page.keyboard.press("Tab")
            erase(page, iterations)
            expect(page, STATUS, "Done.")
            expect(page, STATUS, f"avoid “a {concept}”")
            expect(page, STATUS, f"{iterations} update")
            curves = page.locator("#erase-presence g.mark-line path[stroke][d*=L]")
            sync_api.expect(curves).to_have_count(4)
            sync_api.expect(page.locator("#erase-presence .role-legend-label")).to_have_count(0)
            strokes = curves.evaluate_all("lines => lines.map(line => line.getAttribute('stroke'))")
            assert set(strokes) == {COLOURS[role] for role in ROLES}
        legend = page.locator(".esd-plots .esd-caption", has_text="■")
        page.set_viewport_size({"width": 390, "height": 800})  # nothing of it is cut off on a phone
        for role in ROLES:
            sync_api.expect(legend).to_contain_text(role)
        assert legend.evaluate("box => box.scrollWidth <= box.clientWidth")
        page.close()
        demo.close()
