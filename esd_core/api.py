"""The public names, from where they are defined. `esd_core` hands them on when first asked."""

# ruff: noqa: F401
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
from esd_core.sample import Step, generate, sample
from esd_core.schedulers import SCHEDULERS
from esd_core.selection import TRAIN_METHODS, select
