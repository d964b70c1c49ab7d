"""The exceptions that fastcheck raises.

Every message names the argument in backticks, says what was found, and ends with the remedy.
"""

from __future__ import annotations


class FastcheckError(Exception):
    """The base of every error raised on purpose by fastcheck."""


class InputError(FastcheckError, ValueError):
    """An argument has the right type but a value that cannot be used."""


class InputTypeError(FastcheckError, TypeError):
    """An argument has a type that cannot be used."""


def oneline(fault: BaseException) -> str:
    """Return an exception as part of a sentence."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:200].rstrip('.')}"
