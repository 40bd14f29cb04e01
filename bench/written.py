"""What every benchmark says of the machine, and how a small one leaves its result."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from esd_core.files import write_text

MACHINE = f"{os.cpu_count()} cores, {platform.machine()}"


def write(result: dict[str, Any], out: Path | None) -> None:
    """The result as JSON, if a file for it was asked for."""
    if out:
        write_text(out, json.dumps(result, indent=1) + "\n")
