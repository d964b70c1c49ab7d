"""Which line of the user's code is running: the first frame outside fastcheck, NumPy and SciPy."""

from __future__ import annotations

import site
import sys
import sysconfig
from pathlib import Path

import numpy as np

from fastcheck.trace.graph import SourceLine

_PACKAGE = Path(__file__).resolve().parent.parent
# The packaged problems are user code like any other.
_OURS = tuple(str(path) for path in _PACKAGE.iterdir() if path.name != "problems")
_NUMPY = str(Path(np.__file__).resolve().parent)
_LIBRARIES = (*_OURS, _NUMPY, str(Path(_NUMPY).with_name("scipy")))
# The standard library and what is installed beside it.
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {site.getusersitepackages(), *site.getsitepackages()}
)
_UNKNOWN = SourceLine("<unknown>", 0)


def user_line() -> SourceLine:
    """Return the innermost line of code that belongs to neither fastcheck, NumPy nor SciPy."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_LIBRARIES) and file[:1] != "<":
            return SourceLine(file, frame.f_lineno, frame.f_code.co_name)
        if file.startswith(("<stdin>", "<ipython")):
            return SourceLine(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return _UNKNOWN


def is_library(file: str) -> bool:
    """Whether a source file is installed rather than the user's own."""
    return file.startswith(_INSTALLED)
