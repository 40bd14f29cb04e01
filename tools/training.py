"""The loop that every stage shares: seeded updates, a checkpoint a minute, and the time it took."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tools import checkpoint
from tools.schedule import warm_hold_fall

SAVE_EVERY = 60.0  # seconds
MAX_NORM = 1.0  # gradients longer than this are shortened


class Clock:
    """Wall and processor seconds of a stage, summed over its sittings."""

    def __init__(self) -> None:
        self.before = [0.0, 0.0]
        self.start = [time.perf_counter(), time.process_time()]

    def state_dict(self) -> dict[str, float]:
        """The seconds until now."""
        now = (time.perf_counter(), time.process_time())
        wall, cpu = (b + n - s for b, n, s in zip(self.before, now, self.start, strict=True))
        return {"seconds": round(wall, 1), "processor seconds": round(cpu, 1)}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from the seconds of earlier sittings."""
        self.before = list(state.values())
        self.start = [time.perf_counter(), time.process_time()]


class Stage:
    """One stage's folder, optimizer and everything that its checkpoint holds.

    `parts` are what is trained besides the optimizer (models, averages): things with a state dict.
    """

    def __init__(
        self, name: str, optimizer: Optimizer, updates: int, folder: Path | None = None, **parts: Any
    ) -> None:
        self.name, self.updates, self.optimizer = name, updates, optimizer
        self.folder = folder or checkpoint.BUILD / name
        self.schedule, self.clock = warm_hold_fall(optimizer, updates), Clock()
        self.parts = dict(parts, optimizer=optimizer, schedule=self.schedule, clock=self.clock)
        self.step = checkpoint.resume(self.folder / "resume.pt", **self.parts)

    def train(self, loss_of: Callable[[int], Tensor], every: int = 100) -> Iterator[int]:
        """Make the updates that are left; yield the number made after each of them."""
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        saved, total = time.monotonic(), 0.0
        while self.step < self.updates:
            loss = loss_of(self.step)
            self.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, MAX_NORM)
            self.optimizer.step()
            self.schedule.step()
            self.step += 1
            total += loss.item()
            yield self.step
            if time.monotonic() - saved > SAVE_EVERY or self.step == self.updates:
                self.save()
                saved = time.monotonic()
            if self.step % every == 0 or self.step == self.updates:
                self.say(f"loss {total / ((self.step - 1) % every + 1):.4f}")
                total = 0.0

    def save(self) -> None:
        """Write the checkpoint."""
        checkpoint.save(self.folder / "resume.pt", self.step, **self.parts)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        seconds = self.clock.state_dict()["seconds"]
        print(f"{self.name} {self.step}/{self.updates} {text} {seconds:.0f} s", flush=True)

    def record(self, **figures: Any) -> None:
        """Write `stage.json`: the updates made, the time they took and what was measured."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        made = {"updates": self.step, **self.clock.state_dict(), **figures}
        machine = f"{os.cpu_count()} cores, {platform.machine()}, {device}"
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**made, "machine": machine}, indent=1)
        (self.folder / "stage.json").write_text(text + "\n")
