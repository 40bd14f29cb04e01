"""Measurements kept in one JSON file as they come, so that a stopped benchmark goes on later."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from esd_core.files import write_text


class Kept:
    """`{"about": {...}, "results": {name: measurement}}` in a file, all of one machine."""

    def __init__(self, path: Path, machine: str) -> None:
        self.path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        if found and "results" not in found:
            raise SystemExit(f"{path} was written by another benchmark; give another --out")
        self._about: dict[str, Any] = found.get("about", {"machine": machine})
        if (theirs := self._about.get("machine")) != machine:
            raise SystemExit(
                f"{path} holds measurements of {theirs!r}, this is {machine!r}; give another --out"
            )
        self.results: dict[str, Any] = found.get("results", {})

    def about(self, **facts: Any) -> None:
        """Add facts about the whole."""
        self._about.update(facts, date=time.strftime("%Y-%m-%d"))
        self._write()

    def measure(self, tasks: Iterable[tuple[str, Callable[[], Any]]], budget_seconds: float) -> None:
        """Do every task that is not done yet; begin none after the budget is spent."""
        began = time.monotonic()
        for name, task in tasks:
            if name in self.results:
                continue
            if time.monotonic() - began > budget_seconds:
                print("the budget is spent; the same command goes on from here")
                return
            print(name, flush=True)
            self.results[name] = task()
            self._write()

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        everything = {"about": self._about, "results": self.results}
        write_text(self.path, json.dumps(everything, indent=1) + "\n")
