"""Updates per second and peak memory at Stable Diffusion's size, without its weights.

The UNets of SD 1.4 and SDXL are built with random weights, so nothing is downloaded: what they
predict is noise, but what they cost is real. Text encoder and VAE take no part in erasing and are
left out; text states are random. Each figure comes from a fresh process.

    python -m bench.sd_size --side 8 --updates 2 --methods esd-x     # on a CPU: small latents
    python -m bench.sd_size --arch sd-1.4 sdxl                       # on a GPU: the real size

Results are kept as they come: the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor

from bench.kept import Kept
from bench.speed import peak_resident
from bench.written import MACHINE
from esd_core import DiffusionModel, erase, preset, sample
from esd_core.config import PRESETS

SD_14 = dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8)  # diffusers' defaults
SDXL = dict(
    sample_size=128, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
    block_out_channels=(320, 640, 1280), transformer_layers_per_block=(1, 2, 10),
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)  # fmt: skip


class SdxlUNet(UNet2DConditionModel):
    """SDXL's, given its pooled text and picture sizes (here any) beside the prompt's states."""

    def forward(self, x_t: Tensor, t: Tensor, encoder_hidden_states: Tensor) -> Any:
        pooled = encoder_hidden_states[:, 0, :1280]
        sizes = pooled.new_full((len(pooled), 6), 1024)
        added = {"text_embeds": pooled, "time_ids": sizes}
        return super().forward(x_t, t, encoder_hidden_states, added_cond_kwargs=added)


class Sized(DiffusionModel):
    """A model of which only the UNet is real."""

    def encode(self, prompts: list[str]) -> Tensor:
        width = self.unet.config.cross_attention_dim
        generators = [torch.Generator().manual_seed(sum(p.encode())) for p in prompts]
        states = [torch.randn(77, width, generator=g) for g in generators]
        return torch.stack(states).to(self.device)


def build_unet(arch: str) -> UNet2DConditionModel:
    """Without memory for its weights yet (device meta)."""
    with torch.device("meta"):
        return UNet2DConditionModel(**SD_14) if arch == "sd-1.4" else SdxlUNet(**SDXL)


def build(arch: str, device: str, dtype: torch.dtype) -> Sized:
    """Random weights of a size that keeps activations finite."""
    unet = build_unet(arch).to(dtype).to_empty(device=device).requires_grad_(False).eval()
    for name, weight in unet.named_parameters():
        flat = name.endswith("weight") and weight.ndim == 1  # of a norm
        weight.fill_(1) if flat else weight.normal_(0, 0.02) if weight.ndim > 1 else weight.zero_()
    vae = AutoencoderKL(
        block_out_channels=(8,) * 4, norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    return Sized(arch, None, None, unet, vae, scheduler)  # type: ignore[arg-type]


def run_job(job: dict[str, Any]) -> dict[str, float]:
    """One measurement in this process."""
    device, dtype = job["device"], getattr(torch, job["dtype"])
    model = build(job["arch"], device, dtype)
    size = job["side"] * model.scale_factor if job["side"] else None
    on_gpu = device.startswith("cuda")
    loaded = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident()
    found: dict[str, float] = {}
    if job["preset"] == "sample":
        options = dict(seeds=[0], num_inference_steps=job["updates"] + 1, image_size=size)
        marks = [time.perf_counter() for _ in sample(model, "a cat", **options)]
        found["seconds per step"] = (marks[-1] - marks[0]) / (len(marks) - 1)
    else:
        options = {
            "train_method": job["method"], "iterations": job["updates"], "image_size": size,
            "learning_rate": 1e-7,  # random weights diverge at a real one
            **job["options"],
        }  # fmt: skip
        config = preset(job["preset"], "a cat", **options)
        for step in erase(model, config):
            if on_gpu:
                torch.cuda.synchronize()
            if step.iteration == 0:
                before = step.seconds
        found["seconds before"] = before
        found["updates per second"] = config.iterations / (step.seconds - before)
        whole = preset(job["preset"], "a cat").iterations
        found["whole run"] = before + whole / found["updates per second"]
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident()
    return {**found, "MB loaded": loaded, "peak MB": peak}


def measure(job: dict[str, Any]) -> dict[str, float] | str:
    """In a fresh process; what it said if it failed, as running out of memory is a result too."""
    command = [sys.executable, "-m", "bench.sd_size", "--job", json.dumps(job)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        return (made.stderr.strip().splitlines() or [f"exit code {made.returncode}"])[-1]
    return json.loads(made.stdout)


def main(args: argparse.Namespace) -> None:
    """Measure what is missing, and print all of it."""
    on_gpu = args.device.startswith("cuda")
    dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    kept = Kept(args.out, torch.cuda.get_device_name() if on_gpu else f"{MACHINE}, cpu")
    given = {k: json.loads(v) for k, v in (item.split("=", 1) for item in args.set)}
    tasks = []
    for arch in args.arch:
        jobs = [("sample", ""), *((p, m) for m in args.methods for p in args.presets)]
        for name, method in jobs:
            job = dict(arch=arch, preset=name, method=method, device=args.device, dtype=dtype,
                       side=args.side, updates=args.updates, options=given)  # fmt: skip
            side = args.side or "own"
            key = f"{arch}/{dtype}/latents {side}/{name} {method} {args.set or ''}".strip()
            tasks.append((key, partial(measure, job)))
    kept.measure(tasks, args.budget_seconds)
    for key, _ in tasks:
        print(key, kept.results.get(key, "not measured"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("bench/results/sd_size.json"))
    parser.add_argument("--arch", nargs="+", default=["sd-1.4"], choices=["sd-1.4", "sdxl"])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=PRESETS)
    parser.add_argument("--methods", nargs="+", default=["esd-x", "esd-u"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype", choices=["float32", "bfloat16", "float16"], help="frozen weights"
    )
    parser.add_argument("--side", type=int, help="of the latents; default: the model's own")
    parser.add_argument("--updates", type=int, default=10, help="per measurement")
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--budget-seconds", type=float, default=float("inf"))
    parser.add_argument("--job", type=json.loads, help="internal: measure one job")
    arguments = parser.parse_args()
    if arguments.job:
        print(json.dumps(run_job(arguments.job)))
    else:
        main(arguments)
