"""Errors of this room: a `ValueError` whose message is one line for the user."""


class SourceError(ValueError):
    """Input files that cannot be read as the spec says."""


class PrepareError(ValueError):
    """A preparation that had to stop; nothing was published."""
