"""Which line of the user's code is running: the first frame outside fastcheck and NumPy."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from fastcheck.trace.graph import SourceLine

_PACKAGE = Path(__file__).resolve().parent.parent
# The packaged problems are user code like any other.
_OURS = tuple(f"{_PACKAGE / room}" for room in ("trace", "engines", "verdict", "check", "keep"))
_NUMPY = str(Path(np.__file__).resolve().parent)
_LIBRARIES = (*_OURS, _NUMPY, str(Path(_NUMPY).with_name("scipy")))
_UNKNOWN = SourceLine("<unknown>", 0)


def user_line() -> SourceLine:
    """Return the innermost line of code that belongs neither to fastcheck nor to NumPy."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_OURS) and not file.startswith(_NUMPY) and file[:1] != "<":
            return SourceLine(file, frame.f_lineno, frame.f_code.co_name)
        if file.startswith(("<stdin>", "<ipython")):
            return SourceLine(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return _UNKNOWN


def called_by_library() -> bool:
    """Whether the function that asks was called by fastcheck, NumPy or SciPy themselves."""
    return sys._getframe(2).f_code.co_filename.startswith(_LIBRARIES)
