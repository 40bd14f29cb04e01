"""Every tab with something in it: in both themes on a desk, in one of them on a tablet and a phone."""

# The fixtures come from the other browser tests by import.
# ruff: noqa: F811

from __future__ import annotations

import pytest

from tests.app.test_app_browser import STATUS, arrive, chromium, erase, expect, page, shoot, sync_api, url  # noqa: F401
from tests.app.test_library_browser import visit

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
WIDTHS = {"light": (1440, 900, 400), "dark": (1440,)}  # a theme changes colours, no sizes
# What stands in a tab when it is ready to be looked at.
READY = {
    "Erase": ".esd-film img",
    "Compare": ".esd-table img",
    "Scores": "#scores-result img",
    "Mixture": "#mixture-result svg",
    "Attention": "#attention-result img",
    "Library": "#library-result .esd-downloads button:enabled",
}


def violations(page) -> list[str]:
    """What axe-core reports of the whole page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [f"{v['id']}: {[n['html'][:120] for n in v['nodes']]}" for v in found]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_tab_fits_and_axe_finds_nothing(page, url: str, look: str):
    arrive(page, f"{url}/?__theme={look}")
    assert violations(page) == []
    page.get_by_role("button", name="Choose by picture").click()
    first = page.locator(".esd-picker img").first
    sync_api.expect(first).to_have_attribute("alt", "cat, drawn by the base model, seed 1")
    assert violations(page) == []
    erase(page, 2)
    expect(page, STATUS, "Done.")
    visit(page, "Compare")
    page.click("#compare-run")
    expect(page, "#compare-result .esd-note", "same noise")
    sides = page.locator("#compare-slider img")
    for i, state in enumerate(("base", "erased")):
        sync_api.expect(sides.nth(i)).to_have_attribute("alt", f"“a cat”, seed 1, {state}")
    for tab, ready in READY.items():
        page.set_viewport_size({"width": 1440, "height": 900})
        visit(page, tab)
        sync_api.expect(page.locator(ready).first).to_be_visible()
        for width in WIDTHS[look]:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (tab, width)
            if width == 900:  # the desk's page, narrower
                continue
            assert violations(page) == [], (tab, width)
            shoot(page, f"look-{tab.lower()}-{width}-{look}")
