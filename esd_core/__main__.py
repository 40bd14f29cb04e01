"""`python -m esd_core`: see esd_core.cli."""

from esd_core.cli.app import app

if __name__ == "__main__":
    app(prog_name="python -m esd_core")
