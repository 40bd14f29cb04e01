"""The command line of `python -m esd_core`: `app` holds the commands, their options come from
`command_options` and `config_options`."""
