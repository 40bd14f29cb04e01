"""The newcomer's first click in a real browser: how soon the page is there, the erasure, and Stop.

The app runs in a process of its own, as `make app` starts it; each round starts it afresh, opens
the page in Chromium, waits until the page has told what a run will cost, and presses Erase. Then
it starts a long run of another concept and presses Stop: while the pictures before are drawn, while
the examples are collected, and while it trains.

    python -m bench.first_click --rounds 3 --out bench/results/first-click.json

Browser and model share the processor, as they do for whoever runs the app at home.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from bench import measured
from bench.visitors import served

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
LONGEST = 120_000  # ms that any wait may take
# The page itself notes the time of each frame's first appearance; to ask it all the time would slow
# it down.
CLICK = """() => {
    const begun = performance.now(), seen = window.seen = {};
    new MutationObserver(() => {
        const now = performance.now() - begun;
        document.querySelectorAll(".esd-film thead th").forEach((head, column) => {
            if (column) seen[head.textContent] ??= now;
        });
        const note = document.querySelector("#erase-result .esd-note");
        if (note.textContent.includes("Done.")) seen.done ??= now;
    }).observe(document.querySelector("#erase-result"), {childList: true, subtree: true});
    document.querySelector("#erase-run").click();
}"""

# When to press Stop: as soon as the status says this.
STOPS = {"drawing": "Before: drawing", "collecting": "Collecting", "training": "update "}
STOP = """said => {
    const run = document.querySelector("#erase-result");
    const end = document.querySelector("#erase-stop");
    const note = () => run.querySelector(".esd-note").textContent;
    let pressed = null;
    window.stopped = null;
    const seen = new MutationObserver(() => {
        if (pressed === null && note().includes(said) && !end.disabled) {
            pressed = performance.now();
            end.click();
        } else if (pressed !== null && note().includes("Stopped")) {
            window.stopped = performance.now() - pressed;
            seen.disconnect();
        }
    });
    seen.observe(run, {childList: true, subtree: true, characterData: true});
    document.querySelector("#erase-run").click();
}"""


def stops(page: Page) -> dict[str, float]:
    """Seconds from Stop until the page says that the run has stopped."""
    page.get_by_label("Iterations").fill("1000")
    took = {}
    for concept, (when, said) in zip(("cat", "church", "pizza"), STOPS.items(), strict=True):
        page.fill("#concept input", concept)
        page.keyboard.press("Tab")
        page.wait_for_timeout(1500)  # the page tells what it will cost
        page.evaluate(STOP, said)
        page.wait_for_function("window.stopped", polling=200)
        took[when] = round(page.evaluate("window.stopped") / 1000, 2)
        page.wait_for_timeout(500)
    return took


def click(page: Page, url: str) -> dict[str, Any]:
    """Seconds until the page is painted; and from the click until each frame and the end."""
    begun = time.perf_counter()
    page.goto(url)
    page.wait_for_selector("#erase-run")
    painted = time.perf_counter() - begun
    page.wait_for_selector("#erase-cost >> text=Takes about")
    foretold = page.inner_text("#erase-cost").splitlines()[0]
    page.evaluate(CLICK)
    page.wait_for_function("window.seen.done", polling=500)
    seen = {name: round(ms / 1000, 1) for name, ms in page.evaluate("window.seen").items()}
    done = seen.pop("done")
    return {"painted": round(painted, 1), "foretold": foretold, "frames": seen, "done": done}


def rounds(browser: Browser, count: int, picture: Path | None) -> list[dict[str, Any]]:
    """So many first clicks; a screenshot of the last."""
    made = []
    for number in range(1, count + 1):
        with served() as (url, _):
            page = browser.new_page(viewport={"width": 1440, "height": 1300})
            page.set_default_timeout(LONGEST)
            made.append(click(page, url))
            if picture and number == count:
                page.screenshot(path=picture, full_page=True)
            made[-1]["stop"] = stops(page)
            print(f"{number}/{count} {made[-1]}", flush=True)
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
    middle |= {f"stop, {name}": median(one["stop"][name] for one in made) for name in STOPS}
    print(f"medians: {middle}")
    date = time.strftime("%Y-%m-%d")
    found = {"machine": measured.MACHINE, "date": date, "medians": middle, "rounds": made}
    measured.write(found, out)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__)
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--picture", type=Path, help="a screenshot of the last round")
    return made


if __name__ == "__main__":
    args = parser().parse_args()
    main(args.rounds, args.out, args.picture)
