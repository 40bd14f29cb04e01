"""Trials that need a process of their own: how much memory an update takes, and `torch.compile`.

    python -m bench.fresh "memory/text encoder and VAE freed"
    python -m bench.fresh compiled/update

`bench.tried` runs them all; each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from bench import trials
from bench.measured import peak_during, seconds
from esd_core import DiffusionModel, load_model

UPDATES = 3  # at the third everything has been allocated that ever will be
ROUNDS = 3
LIMIT = 900  # seconds by the clock, of one trial


def nothing(model: DiffusionModel) -> None:
    pass


def encoders(model: DiffusionModel) -> None:
    """A tensor on the device "meta" has a shape and no values: whoever needed them would fail."""
    model.text_encoder.to("meta")
    model.vae.to("meta")


# What to let go once the examples are there, and which of the updates of `bench.trials` to make.
MEMORY: dict[str, tuple[Callable[[DiffusionModel], None], str]] = {
    "plain": (nothing, "plain"),
    "text encoder and VAE freed": (encoders, "plain"),
    "gradient checkpointing": (nothing, "gradient checkpointing"),
    "micro-batches of 4": (nothing, "micro-batches of 4"),
    "micro-batches of 1": (nothing, "micro-batches of 1"),
    "erasing and preserving examples in one batch": (nothing, "erasing and preserving examples in one batch"),
}
COMPILED = {
    "update": (trials.updating, lambda m: trials.updating(m, lambda run: run.unet.compile())),
    "teacher": (trials.drawing, lambda m: trials.drawing(trials.compiled(m))),
}


def memory(name: str) -> dict[str, float]:
    """MB at most while the examples were drawn and while updating, `rest` between the two."""
    free, which = MEMORY[name]
    model = load_model("emoji")
    found = {"examples": peak_during(lambda: trials.examples_of(model))}
    free(model)
    found["rest"] = peak_during(lambda: None)
    work = trials.UPDATES[which](model)
    found["updates"] = peak_during(lambda: [work() for _ in range(UPDATES)])
    return found


def compiled(name: str) -> dict[str, Any]:
    """Seconds of the first go, in which the compiler works, and of later ones by turns."""
    model = load_model("emoji")
    plain, other = (make(model) for make in COMPILED[name])
    first = {"plain": seconds(plain), "torch.compile": seconds(other)}
    ways = {"plain": plain, "torch.compile": other}
    rounds = [{way: seconds(work) for way, work in ways.items()} for _ in range(ROUNDS)]
    return {"first": first, "rounds": rounds}


def measured(trial: str) -> dict[str, Any]:
    """What a fresh process finds, with nothing compiled before.

    Where compiling fails or takes too long, that is the result. Raises CalledProcessError if
    anything else fails, TimeoutExpired if anything else takes that long.
    """
    before = sum(os.times()[2:4])
    with tempfile.TemporaryDirectory() as cache:
        try:
            found = subprocess.run(
                [sys.executable, "-m", "bench.fresh", trial],
                capture_output=True,
                text=True,
                env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache},
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            if not trial.startswith("compiled/"):
                raise
            spent = sum(os.times()[2:4]) - before
            return {"failed": f"not done after {LIMIT} s, {spent:.0f} of them the processor's"}
    if found.returncode and trial.startswith("compiled/"):
        return {"failed": found.stderr.strip().splitlines()[-1]}
    found.check_returncode()
    return json.loads(found.stdout.splitlines()[-1])


TRIALS = [*(f"memory/{name}" for name in MEMORY), *(f"compiled/{name}" for name in COMPILED)]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("trial", choices=TRIALS)
    return made


if __name__ == "__main__":
    kind, _, name = parser().parse_args().trial.partition("/")
    print(json.dumps({"memory": memory, "compiled": compiled}[kind](name)))
