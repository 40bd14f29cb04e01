"""The command line of `python -m esd_core`: `app` holds the commands, `options` what they share."""
