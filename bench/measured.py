"""What all measurements share: the machine's name, a clock, peak memory, and the file they are kept in."""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from esd_core.support.files import write_text

MACHINE = f"{os.cpu_count()} cores, {platform.machine()}"


def parser(doc: str, out: str | None = None, *, budget: bool = False) -> argparse.ArgumentParser:
    """A script's command line, which begins with where to write and how long to go on."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--out", type=Path, default=out and Path(out), help=f"default: {out or 'only print'}")
    if budget:
        help = "seconds after which nothing new is begun"
        made.add_argument("--budget-seconds", type=float, default=float("inf"), help=help)
    return made


def line(*cells: Any) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: str) -> list[str]:
    """Its first two lines."""
    return [line(*cells), "|---" * len(cells) + "|"]


def write(result: dict[str, Any], out: Path | None) -> None:
    """The result as JSON, if a file for it was asked for."""
    if out:
        write_text(out, json.dumps(result, indent=1) + "\n")


def seconds(work: Callable[[], Any]) -> dict[str, float]:
    """By the clock, and of the processor, which includes children that have ended (a compiler)."""
    wall, processor = time.perf_counter(), sum(os.times()[:4])
    work()
    return {"wall": time.perf_counter() - wall, "processor": sum(os.times()[:4]) - processor}


def peak(device: str = "cpu") -> float:
    """MB that the process needed at most: on a GPU what torch's allocator gave out there, else what was
    resident. Not `ru_maxrss`: on Linux a child starts with its parent's, which hides its own."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resident("VmHWM")


def peak_during(work: Callable[[], Any]) -> float:
    """MB that the process needed at most while it did the work; Linux only."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    work()
    return peak()


def resident(what: str = "VmRSS", process: int | str = "self") -> float:
    """MB of memory that a process holds, or at its peak (VmHWM); Linux only."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) / 1024


class Kept:
    """`{"about": {...}, "results": {name: measurement}}` in a file, all of one machine, written as they
    come, so that a stopped benchmark goes on later."""

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
