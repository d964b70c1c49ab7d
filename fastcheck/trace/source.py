"""Which line of the user's code is running: the first frame outside fastcheck and NumPy."""

from __future__ import annotations

import site
import sys
import sysconfig
import traceback
from functools import lru_cache
from pathlib import Path

import numpy as np

from fastcheck.trace.graph import SourceLine

_PACKAGE = Path(__file__).resolve().parent.parent
# The packaged problems are user code like any other.
_OURS = tuple(str(path) for path in _PACKAGE.iterdir() if path.name != "problems")
_NUMPY = str(Path(np.__file__).resolve().parent)
_LIBRARIES = (
    *_OURS,
    _NUMPY,
    *(str(Path(_NUMPY).with_name(name)) for name in ("scipy", "cupy", "cupyx")),
)
# The standard library and what is installed beside it.
_INSTALLED = tuple(
    {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    | {site.getusersitepackages(), *site.getsitepackages()}
)
_UNKNOWN = SourceLine("<unknown>", 0)
_MOST_FILES = 4096


def user_line() -> SourceLine:
    """Return the innermost line of code that belongs to neither fastcheck, NumPy nor its kin."""
    frame = sys._getframe(1)
    while frame is not None:  # for every operation of a loss, so it had better be quick
        file = frame.f_code.co_filename
        is_the_users = _seen.get(file)
        if is_the_users is None:
            is_the_users = _remembered(file)
        if is_the_users:
            return SourceLine(file, frame.f_lineno, frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return _UNKNOWN


_seen: dict[str, bool] = {}


def _remembered(file: str) -> bool:
    if len(_seen) >= _MOST_FILES:
        _seen.clear()
    _seen[file] = _is_the_users(file)
    return _seen[file]


def line_of(error: BaseException) -> SourceLine:
    """Return the innermost such line on the way to an error."""
    found = _UNKNOWN
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _is_the_users(frame.f_code.co_filename):
            found = SourceLine(frame.f_code.co_filename, line, frame.f_code.co_name)
    return found


def _is_the_users(file: str) -> bool:
    if file[:1] == "<":
        return file.startswith(("<stdin>", "<ipython"))
    return not _is_below(file, _LIBRARIES)


def is_library(file: str) -> bool:
    """Whether a source file is installed rather than the user's own."""
    return _is_below(file, _INSTALLED)


def of_the_user(file: str) -> bool:
    """Whether code is neither installed nor fastcheck's; also code that comes from no file."""
    return not _is_below(file, _INSTALLED) and not _is_below(file, _LIBRARIES)


@lru_cache(_MOST_FILES)
def _is_below(file: str, folders: tuple[str, ...]) -> bool:
    return file.startswith(folders)
