"""How long a visitor's own things are kept, and where their files lie.

`gr.State` keeps one value per open page; the frozen model is shared by all and never changed.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

from gradio.utils import get_upload_folder

LIFETIME = 3600  # seconds an erasure, and its file, are kept after their last change
log = logging.getLogger("esd_lab")


def new_file(name: str) -> Path:
    """A path in a fresh folder of Gradio's cache, which Gradio empties of old files."""
    cache = Path(get_upload_folder())
    cache.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=cache)) / name
