"""The authors' own script on the embedded model, from your clone of their repository.

    git clone https://github.com/rohitgandikota/erasing
    python -m bench.official --repo erasing --out bench/results/official.json

It runs the `esd_sd.py` that is there: that of 2025 (25613d2) or that of March 2026 (2ff19a1), which hands
over to the trainer that it shares with SDXL and FLUX. Nothing of theirs is copied or changed on disk. Each
run is a fresh process in which what stands in the way is worked around (`WORKED_AROUND`). Its own
sampling, guidance, target, optimiser and loop run as they are, at its own defaults. After each run
our `live` erases the same, so that the two share whatever else the machine is doing.
"""

from __future__ import annotations

import argparse
import json
import random
import runpy
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from bench import measured
from bench.judged import Watch
from bench.measured import Kept
from bench.speed import LOOKS, watch_run
from esd_core import load_model
from esd_core.erasure import Erasure
from esd_core.exchange.pipelines import EMOJI
from esd_core.selection import select
from tools import judge

WORKED_AROUND = [
    "2025: the model id CompVis/stable-diffusion-v1-4 is hard-coded: from_pretrained reads our folder",
    "2025: the size 1024 x 1024 is hard-coded: the pipeline call gets the model's own size",
    "bfloat16 is hard-coded: kept unless --float32, which makes loading and .to() ignore it",
    "the scheduler is the pipeline's: PNDM, which SD 1.4 comes with, is put in for ours",
    "seeds are drawn from an unseeded `random`: it is seeded first",
    "only the last weights are saved, with no times: Adam.step is wrapped to note times and keep "
    "weights at a few updates (the time of keeping is not counted)",
    "utils/ is imported relative to the working directory: the clone is put on sys.path",
]


def year(repo: Path) -> str:
    """Of the script in a clone: 2026 if it has the trainer for all models."""
    return "2026" if (repo / "utils" / "esd_trainer.py").is_file() else "2025"


def redirect(weights: str, size: int, float32: bool) -> None:
    """Make the loaders read our folder whatever they are asked for."""
    patched = (UNet2DConditionModel, StableDiffusionPipeline)
    own = {cls: cls.from_pretrained.__func__ for cls in patched}

    def load(cls: Any, name: str, *args: Any, **options: Any) -> Any:
        dtype = options.pop("torch_dtype", None)
        if dtype is not None:
            options["dtype"] = torch.float32 if float32 else dtype
        folder = name if Path(name).is_dir() else weights  # a part of ours, or their model's id
        loaded = own[cls](cls, folder, *args, **options)
        if cls is StableDiffusionPipeline:
            kept = loaded.scheduler.config
            loaded.scheduler = PNDMScheduler.from_config(kept, skip_prk_steps=True)
        return loaded

    for cls in own:
        cls.from_pretrained = classmethod(load)  # type: ignore[method-assign, assignment]
    if float32:
        move = UNet2DConditionModel.to
        UNet2DConditionModel.to = lambda self, device, dtype=None: move(self, device)  # type: ignore
    from utils import sd_utils  # theirs

    call = sd_utils.esd_sd_call
    sd_utils.esd_sd_call = lambda self, *args, **options: call(
        self, *args, **{**options, "height": size, "width": size}
    )


def watch_updates(looks: set[int], folder: Path) -> list[float]:
    """Note seconds after each update from now on, and keep the weights after some."""
    marks: list[float] = []
    lost, began, step = 0.0, time.perf_counter(), torch.optim.Adam.step

    def noting(self: torch.optim.Adam, *args: Any, **options: Any) -> Any:
        nonlocal lost
        result = step(self, *args, **options)
        mark = time.perf_counter()
        marks.append(mark - began - lost)
        if len(marks) in looks:
            weights = [p.detach().clone() for p in self.param_groups[0]["params"]]
            torch.save(weights, folder / f"{len(marks)}.pt")
            lost += time.perf_counter() - mark
        return result

    torch.optim.Adam.step = noting  # type: ignore[method-assign, assignment]
    return marks


def run_inside(job: dict[str, Any]) -> None:
    """The script, in this process; leaves times, memory and weights in the job's folder.

    Keys: repo; folder; weights (a pipeline's folder); size of the pictures; float32 (or as
    written); device; seed; prompt; method; iterations; looks (updates after which to keep the
    weights); more (arguments of the script).
    """
    repo, folder = Path(job["repo"]).resolve(), Path(job["folder"])
    sys.path.insert(0, str(repo))
    redirect(job["weights"], job["size"], job["float32"])
    random.seed(job["seed"])
    marks = watch_updates(set(job["looks"]), folder)
    options = {
        "erase_concept": job["prompt"],
        "train_method": job["method"],
        "iterations": str(job["iterations"]),
        "device": job["device"],
        "save_path": str(folder / "saved"),
    }
    sys.argv = ["esd_sd.py", *(x for k, v in options.items() for x in (f"--{k}", v)), *job["more"]]
    runpy.run_path(str(repo / "esd_sd.py"), run_name="__main__")
    times = {"marks": marks, "peak MB": measured.peak(job["device"])}
    (folder / "times.json").write_text(json.dumps(times))


def one_run(args: argparse.Namespace, watch: Watch, concept: str, method: str, seed: int) -> dict:
    """A run of the script, and what the judge sees in the weights that it passed through."""
    model, marker = load_model("emoji"), judge.load_judge()
    names = select(model.unet, method)
    looks = sorted({max(1, round(share * args.iterations)) for share in LOOKS})
    with tempfile.TemporaryDirectory() as folder:
        job = dict(
            repo=str(args.repo),
            folder=folder,
            weights=str(EMOJI),
            size=model.image_size,
            seed=seed,
            prompt=f"a {concept}",
            method=method,
            iterations=args.iterations,
            float32=args.float32,
            device="cpu",
            looks=looks,
            more=[],
        )
        command = [sys.executable, "-m", "bench.official", "--job", json.dumps(job)]
        subprocess.run(command, check=True)
        times = json.loads((Path(folder) / "times.json").read_text())
        marks, seen = times["marks"], []
        for file in sorted(Path(folder).glob("*.pt"), key=lambda f: int(f.stem)):
            tensors = [t.float() for t in torch.load(file)]
            edited = Erasure(dict(zip(names, tensors, strict=True)), model.fingerprint)
            found = watch.accuracy(model, marker, edited.apply(model))
            updates = int(file.stem)
            seen.append({"updates": updates, "seconds": marks[updates - 1], **found})
            print(f"  {seen[-1]}", flush=True)
    per_update = (marks[-1] - marks[0]) / max(1, len(marks) - 1)
    return {"looks": seen, "update": per_update, "peak MB": times["peak MB"]}


def main(args: argparse.Namespace) -> None:
    """Measure what is missing until the budget is spent; print all of it."""
    if not (args.repo / "esd_sd.py").is_file():
        raise SystemExit(f"{args.repo} holds no esd_sd.py; clone rohitgandikota/erasing there")
    kept = Kept(args.out, f"{measured.MACHINE}, cpu")
    kept.about(worked_around=WORKED_AROUND)
    dtype = "float32" if args.float32 else "bfloat16"
    model, tasks, pairs = load_model("emoji"), [], []
    script = f"official-{year(args.repo)}"
    for seed, concept, method in product(range(args.seeds), args.concepts, args.methods):
        watch = Watch.over(concept, args.pictures, 2 * args.pictures)
        run = f"{dtype}/{method}/{concept}/{seed}"
        theirs = partial(one_run, args, watch, concept, method, seed)
        ours = partial(watch_run, model, watch, "live", method, concept, seed)
        tasks += [(f"{script}/{run}", theirs), (f"live/{run}", ours)]
        pairs.append(run)
    kept.measure(tasks, args.budget_seconds)
    for run in pairs:
        print(compared(script, run, kept.results))


def compared(script: str, run: str, results: dict[str, Any]) -> str:
    """One line: a whole run of the script, and of `live` right after it."""
    if f"live/{run}" not in results:
        return f"{run}: not measured"
    theirs, ours = results[f"{script}/{run}"]["looks"][-1], results[f"live/{run}"][-1]
    times = theirs["seconds"] / ours["measured seconds"]
    return (
        f"{run}: {script} {theirs['seconds']:.0f} s, {theirs['concept']:.0%} still seen; "
        f"live {ours['measured seconds']:.1f} s, {ours['concept']:.0%}: {times:.0f} times"
    )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = measured.parser(__doc__, "bench/results/official.json", budget=True)
    made.add_argument("--repo", type=Path, default=Path("erasing"), help="your clone")
    made.add_argument("--float32", action="store_true", help="not in its bfloat16")
    made.add_argument("--iterations", type=int, default=200)
    made.add_argument("--seeds", type=int, default=3)
    made.add_argument("--concepts", nargs="+", default=["cat", "rocket", "pizza"])
    made.add_argument("--methods", nargs="+", default=["esd-x", "esd-u"])
    made.add_argument("--pictures", type=int, default=24)
    made.add_argument("--job", type=json.loads, help="internal: one run in this process")
    return made


if __name__ == "__main__":
    arguments = parser().parse_args()
    if arguments.job:
        run_inside(arguments.job)
    else:
        main(arguments)
