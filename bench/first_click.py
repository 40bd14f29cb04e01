"""The newcomer's first click in a real browser: how soon the page is there, and the erasure.

The app runs in a process of its own, as `make app` starts it; each round starts it afresh, opens
the page in Chromium, waits until the page has told what a run will cost, and presses Erase.

    python -m bench.first_click --rounds 3 --out bench/results/first-click.json

Browser and model share the processor, as they do for whoever runs the app at home.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from bench.visitors import served

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONGEST = 120_000  # ms that any wait may take


def click(page: Page, url: str) -> dict[str, Any]:
    """Seconds until the page is painted; and from the click until each frame and the end."""
    begun = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#erase-run")
    painted = time.perf_counter() - begun
    page.wait_for_selector("#erase-cost >> text=Takes about")
    foretold = page.inner_text("#erase-cost").splitlines()[0]
    begun = time.perf_counter()
    page.click("#erase-run")
    frames: dict[str, float] = {}
    while True:
        for head in page.locator(".esd-film thead th").all_inner_texts()[1:]:
            frames.setdefault(head, round(time.perf_counter() - begun, 1))
        if "Done." in page.inner_text("#erase-result .esd-note"):
            break
        if time.perf_counter() - begun > LONGEST / 1000:
            raise SystemExit("the run did not end")
        time.sleep(0.1)
    whole = time.perf_counter() - begun
    return {
        "painted": round(painted, 1), "foretold": foretold, "frames": frames,
        "done": round(whole, 1),
    }  # fmt: skip


def rounds(browser: Browser, count: int, picture: Path | None) -> list[dict[str, Any]]:
    """So many first clicks; a screenshot of the last."""
    made = []
    for number in range(1, count + 1):
        with served() as (url, _):
            page = browser.new_page(viewport={"width": 1440, "height": 1300})
            page.set_default_timeout(LONGEST)
            made.append(click(page, url))
            print(f"{number}/{count} {made[-1]}", flush=True)
            if picture and number == count:
                page.screenshot(path=picture, full_page=True)
            page.close()
    return made


def main(count: int, out: Path | None, picture: Path | None) -> None:
    """Measure, print, write."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        made = rounds(browser, count, picture)
        browser.close()
    middle = {name: median(one[name] for one in made) for name in ("painted", "done")}
    print(f"medians: {middle}")
    result = {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "date": time.strftime("%Y-%m-%d"), "medians": middle, "rounds": made,
    }  # fmt: skip
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, help="a screenshot of the last round")
    args = parser.parse_args()
    main(args.rounds, args.out, args.picture)
