"""One-line errors that name what is wrong and the nearest right name."""

import difflib
from collections.abc import Iterable


class PipelineError(ValueError):
    """A mistake the user can mend; the message is one line and says how."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """A hint such as ` (did you mean 'epochs'?)`, or the known names where nothing is near."""
    names = [str(item) for item in known]
    matches = difflib.get_close_matches(str(name), names, n=count, cutoff=0.6)
    if matches:
        return f" (did you mean {' or '.join(repr(match) for match in matches)}?)"
    if len(names) <= 40:
        return f" (known: {', '.join(names)})"
    return ""


def unknown(what: str, name: str, known: Iterable[str]) -> PipelineError:
    """The error for a name that is not among `known`."""
    return PipelineError(f"unknown {what} {name!r}{nearest(name, known)}")
