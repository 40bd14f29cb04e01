"""ESD Lab's engine: erase concepts from text-to-image diffusion models, and see what happened.

The files beside this one are the method; `support` holds what they stand on, `study` the instruments,
`exchange` what goes out and comes in as files, `plane` the two-dimensional world, `cli` the command line. A
public name is loaded when it is first asked for (PEP 562), so that `python -m esd_core --help` need not wait
for torch.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esd_core.config import PRESETS, EraseConfig, Target, preset
    from esd_core.erasing import DivergenceError, EraseStep, erase
    from esd_core.erasure import Erasure, combine
    from esd_core.examples import Examples, KeptExamples
    from esd_core.exchange import card as card
    from esd_core.exchange.pipelines import load_model
    from esd_core.models import DiffusionModel
    from esd_core.objective import erasing_loss, erasing_target
    from esd_core.run_state import Checkpoint
    from esd_core.sampling import SCHEDULERS, Step, generate, sample
    from esd_core.selection import TRAIN_METHODS, select
    from esd_core.study.clip_probe import Probe, Score, probe
    from esd_core.study.closed_form import closed_form_edit, least_squares_edit
    from esd_core.study.comparison import Comparison, compare
    from esd_core.study.evaluation import Change, Evaluation, evaluate
    from esd_core.study.inversion import InversionStep, invert
    from esd_core.study.questions import Gallery

__version__ = "0.1.0"

# How long threads that wait for each other spin before they sleep; GNU's OpenMP reads it when torch loads.
# Beside other work its own 300,000 rounds keep the one that is waited for off its core: bench/crowded.py.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_PUBLIC = {
    "run_state": "Checkpoint",
    "config": "PRESETS EraseConfig Target preset",
    "erasing": "DivergenceError EraseStep erase",
    "erasure": "Erasure combine",
    "examples": "Examples KeptExamples",
    "exchange.pipelines": "load_model",
    "models": "DiffusionModel",
    "objective": "erasing_loss erasing_target",
    "sampling": "SCHEDULERS Step generate sample",
    "selection": "TRAIN_METHODS select",
    "study.clip_probe": "Probe Score probe",
    "study.closed_form": "closed_form_edit least_squares_edit",
    "study.comparison": "Comparison compare",
    "study.evaluation": "Change Evaluation evaluate",
    "study.inversion": "InversionStep invert",
    "study.questions": "Gallery",
}
_MODULE_OF = {name: module for module, names in _PUBLIC.items() for name in names.split()}
__all__ = ["card", *_MODULE_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name == "card":
        return import_module("esd_core.exchange.card")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'esd_core' has no attribute {name!r}")
    return getattr(import_module(f"esd_core.{_MODULE_OF[name]}"), name)
