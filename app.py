"""ESD Lab, the app: watch a concept leave a text-to-image model. `python app.py --help`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import esd_core  # noqa: F401  # first, as it sets up OpenMP before anything loads torch

# isort: split
import gradio as gr

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # it warns of parts that we do not use

from esd_core import DiffusionModel, load_model
from esd_core.exchange import formats
from esd_core.exchange.png_parameters import Parameters
from ui.attention import tab as attention_tab
from ui.compare import tab as compare_tab
from ui.erase import fields as erase_fields
from ui.erase import tab as erase_tab
from ui.library import tab as library_tab
from ui.library.tab import RestoredTab
from ui.look import theme
from ui.mixture import tab as mixture_tab
from ui.scores import tab as scores_tab
from ui.server import memory, processor, waiting
from ui.shared import erasure_list, markup
from ui.shared.blocks import html

# Equation 6 of the paper, as in esd_core/objective.py.
EQUATION = (
    "ε<sub>edited</sub><b>(</b>x<sub>t</sub>, c, t<b>)</b> <b>←</b> ε<sub>null</sub> <b>−</b> η "
    "<b>(</b>ε<sub>concept</sub> <b>−</b> ε<sub>null</sub><b>)</b>"
)

THREADS = 64  # of Gradio; a run or grid that waits for its place takes one
# What a public Space may serve: models known to load safely, of known licence and size.
PUBLIC_MODELS = ("emoji", "CompVis/stable-diffusion-v1-4")


def settings(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> argparse.Namespace:
    """Options from the command line; what it leaves out, from the environment.

    Raises:
        SystemExit: an option cannot be, or a Space is told to serve a model it may not.
    """
    parser = argparse.ArgumentParser(
        prog="app.py",
        description="Erase concepts from a text-to-image model, in the browser.",
        epilog="The environment variables ESD_MODEL, ESD_DEVICE, ESD_PORT and ESD_SHARE=1 say the same.",
    )
    get = environment.get
    parser.add_argument(
        "--model",
        default=get("ESD_MODEL") or "emoji",
        help="emoji (embedded), a Hugging Face Hub id, or a folder in diffusers "
        "layout (default: %(default)s)",
    )
    parser.add_argument(
        "--device", default=get("ESD_DEVICE") or None, help="cpu, cuda, ... (default: cuda if there is one)"
    )
    parser.add_argument(
        "--port", type=int, default=get("ESD_PORT") or None, help="default: the first free one from 7860"
    )
    parser.add_argument(
        "--share",
        action="store_true",
        default=get("ESD_SHARE") == "1",
        help="open a public tunnel through Gradio's servers",
    )
    options = parser.parse_args(arguments)
    if "SPACE_ID" in environment and options.model not in PUBLIC_MODELS:
        parser.error(
            f"model is {options.model!r}, but a Space serves one of: {', '.join(PUBLIC_MODELS)}; "
            "set ESD_MODEL to one of them, or run the app on a machine of your own"
        )
    return options


def server_name(environment: Mapping[str, str]) -> str:
    """Only this machine, unless we are a Space or told otherwise."""
    public = "0.0.0.0" if "SPACE_ID" in environment else "127.0.0.1"
    return environment.get("GRADIO_SERVER_NAME") or public


def header(model: DiffusionModel) -> str:
    """The name, what ESD does, its equation, and what runs here."""
    parameters = sum(p.numel() for p in model.unet.parameters()) / 1e6
    return f"""<header class="esd-header">
    <h1>ESD Lab</h1>
    <p class="esd-lede">Erased Stable Diffusion trains a text-to-image model to steer away from a
    concept, using only what the model itself knows of it.</p>
    <div><p class="esd-equation">{EQUATION}</p>
    <p class="esd-facts">Model: {escape(model.short_name)}, {parameters:,.1f} M parameters,
    {model.image_size} px, on {escape(model.device.type)}</p></div>
    </header>"""


def recall_run(made: Parameters) -> dict[str, Any]:
    """The fields of Erase for the run that a picture's erasure came from, if it records one."""
    return erase_fields.recall(made.config) if made.config else {}


def build_demo(model: DiffusionModel) -> gr.Blocks:
    """The page, around one frozen model that all visitors share."""
    with gr.Blocks(
        title="ESD Lab", analytics_enabled=False, delete_cache=(memory.LIFETIME, memory.LIFETIME)
    ) as demo:
        ready, refusals = erasure_list.ready_made(model)
        mine = erasure_list.Erasures.beside(ready)
        html(header(model))
        with gr.Tab("Erase"):
            for_erase = erase_tab.build(model, mine)
        with gr.Tab("Compare") as comparing:
            for_compare = compare_tab.build(model, mine, comparing)
        with gr.Tab("Scores") as scores:
            scores_tab.build(model, mine.in_use, scores)
        with gr.Tab("Mixture") as mixture:
            mixture_tab.build(mixture)
        with gr.Tab("Attention") as attention:
            attention_tab.build(model, mine.in_use, attention)
        with gr.Tab("Library") as library:
            of_run = RestoredTab("Erase", for_erase, recall_run)
            of_pictures = RestoredTab("Compare", for_compare, compare_tab.recall)
            library_tab.build(model, mine, library, [of_run, of_pictures])
        memory.look_after(demo)
    for refusal in refusals:  # of another model than theirs it is no news
        (memory.log.warning if model.name == "emoji" else memory.log.info)(refusal)
    waiting.share(demo, markup.note)
    return demo.queue(api_open=False, max_size=16)


def launch(demo: gr.Blocks, largest_upload: int = formats.LARGEST, **options: Any) -> Any:
    """Serve it: our look, nothing recorded, nothing shared unless asked."""
    return demo.launch(
        theme=theme.theme(),
        css_paths=theme.CSS,
        head=theme.HEAD,
        ssr_mode=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=["api"],
        max_file_size=largest_upload,
        state_session_capacity=memory.PAGES,
        max_threads=THREADS,
        **options,
    )


if __name__ == "__main__":
    options = settings(None, os.environ)
    try:
        loaded = processor.compute(load_model, options.model, device=options.device)
    except ValueError as refused:
        raise SystemExit(f"app.py: {refused}") from None
    launch(
        processor.compute(build_demo, loaded),
        formats.largest(loaded),
        share=options.share,
        server_port=options.port,
        server_name=server_name(os.environ),
    )
