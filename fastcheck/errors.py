"""The exceptions that fastcheck raises.

Every message names the argument in backticks, says what was found, and ends with the remedy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcheck.report.data import Report


class FastcheckError(Exception):
    """The base of every error raised on purpose by fastcheck."""


class InputError(FastcheckError, ValueError):
    """An argument has the right type but a value that cannot be used."""


class NotFiniteError(InputError):
    """The parameters or the loss are NaN or infinite."""


class InputTypeError(FastcheckError, TypeError):
    """An argument has a type that cannot be used."""


class GradientError(FastcheckError):
    """A gradient is wrong.

    Attributes
    ----------
    report : Report
        Where, and as far as that can be told, why.
    """

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report

    def __reduce__(self) -> tuple[type[GradientError], tuple[str, Report]]:
        return type(self), (str(self), self.report)


def oneline(fault: BaseException) -> str:
    """Return an exception as part of a sentence."""
    return f"{type(fault).__name__}: {' '.join(str(fault).split())[:200].rstrip('.')}"
