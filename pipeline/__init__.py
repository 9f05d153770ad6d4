"""The commands: `python -m pipeline ...`."""
