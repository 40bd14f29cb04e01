"""ESD Lab's engine: erase concepts from text-to-image diffusion models, and see what happened."""

from esd_core import card
from esd_core.checkpoint import Checkpoint
from esd_core.closed_form import closed_form_edit, least_squares_edit
from esd_core.compare import Comparison, compare
from esd_core.config import PRESETS, EraseConfig, Target, preset
from esd_core.erase import DivergenceError, EraseStep, erase
from esd_core.erasure import Erasure, combine
from esd_core.evaluate import Change, Evaluation, evaluate
from esd_core.examples import Examples, KeptExamples
from esd_core.inversion import InversionStep, invert
from esd_core.models import DiffusionModel, load_model
from esd_core.objective import erasing_loss, erasing_target
from esd_core.probe import Probe, Score, probe
from esd_core.questions import Gallery
from esd_core.sample import SCHEDULERS, Step, generate, sample
from esd_core.selection import TRAIN_METHODS, select

__version__ = "0.1.0"

__all__ = [
    "PRESETS",
    "SCHEDULERS",
    "TRAIN_METHODS",
    "Change",
    "Checkpoint",
    "Comparison",
    "DiffusionModel",
    "DivergenceError",
    "EraseConfig",
    "EraseStep",
    "Erasure",
    "Evaluation",
    "Examples",
    "InversionStep",
    "KeptExamples",
    "Gallery",
    "Probe",
    "Score",
    "Step",
    "Target",
    "card",
    "closed_form_edit",
    "combine",
    "compare",
    "erase",
    "erasing_loss",
    "erasing_target",
    "evaluate",
    "generate",
    "invert",
    "least_squares_edit",
    "load_model",
    "preset",
    "probe",
    "sample",
    "select",
]
