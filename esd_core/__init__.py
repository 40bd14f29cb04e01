"""ESD Lab's engine: erase concepts from text-to-image diffusion models, and see what happened.

torch and diffusers are loaded when a public name is first asked for, not with the package, so that
`python -m esd_core --help` need not wait for them.
"""

# ruff: noqa: F405 (__all__ names what esd_core.api imports)
import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from esd_core.api import *  # noqa: F403

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


class _Package(ModuleType):
    """This package. Some names are both a module's and its main function's, such as `erase`: as an
    attribute here they are always the function."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        if name not in __all__:
            raise AttributeError(f"module 'esd_core' has no attribute {name!r}")
        return getattr(import_module("esd_core.api"), name)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        imported = isinstance(value, ModuleType)  # Python sets every submodule it imports
        if not (imported and name in __all__ and hasattr(value, name)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
