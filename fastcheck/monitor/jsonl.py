"""A monitor's records as lines of JSON: one line a check, written as the training goes.

A line goes to the operating system in one call as soon as there is one, so that a run that is
killed loses the line that it was writing and no other, and two runs that append to one file do not
mix their lines. As in reports, NaN and the infinities, which strict JSON lacks, are the strings
``"nan"``, ``"inf"`` and ``"-inf"``.
"""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, get_type_hints

from fastcheck.errors import InputError
from fastcheck.monitor.record import Record
from fastcheck.report.data import Verdict

SCHEMA = 1
_OPENING = b'{"schema": '  # what every line begins with, also one that was cut short
_BLOCK = 65536
_PATIENCE = 0.05  # seconds in which another run would have ended a line that it is writing
_REMEDY = "give a file that a monitor wrote"


class JsonLines:
    """A file that records are appended to. Use as a context manager, or `close` it.

    What a killed run left of a last line is removed before anything is appended, and so nothing
    of a whole record is ever lost.

    Parameters
    ----------
    path : str or path
        The file; it is created where there is none.

    Raises
    ------
    InputError
        The file cannot be opened, or holds something other than a monitor's records.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._descriptor: int | None = _open(self._path)
        try:
            _mend(self._descriptor, self._path)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def write(self, record: Record) -> None:
        """Append one record; when this returns, only a failure of the machine can lose it."""
        if self._descriptor is None:
            raise InputError(f"`path`: {self._path} was closed; open it again with JsonLines.")
        try:
            _append(self._descriptor, line_of(record))
        except OSError as error:
            raise InputError(
                f"`path`: {self._path} cannot be written ({error.strerror or error}); "
                "make room for it, or give another file."
            ) from None

    def close(self) -> None:
        """Close the file; calling it again does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> JsonLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_jsonl(path: str | os.PathLike[str]) -> list[Record]:
    """Return the records of a file in the order of its lines.

    A last line that a killed run left unfinished is ignored, and so are fields that this fastcheck
    does not know.

    Parameters
    ----------
    path : str or path
        A file that a monitor wrote.

    Returns
    -------
    list of Record

    Raises
    ------
    InputError
        The file cannot be read, or a line of it is not a record; the message names the line.
    """
    file = Path(path)
    try:
        lines = file.read_bytes().split(b"\n")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"`path`: {file} cannot be read ({reason}); {_REMEDY}.") from None
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if numbered and not _is_json(numbered[-1][1]):
        numbered.pop()
    return [record_of(line, f"line {number} of {file}") for number, line in numbered]


def line_of(record: Record) -> bytes:
    """Return a record as its line, the line break included."""
    values = {name: kind.write(getattr(record, name)) for name, kind in _FIELDS.items()}
    return json.dumps({"schema": SCHEMA, **values}, allow_nan=False).encode("ascii") + b"\n"


def record_of(line: bytes, place: str) -> Record:
    """Return the record that `line_of` wrote.

    Parameters
    ----------
    line : bytes
        The line, with or without its line break.
    place : str
        Where it is, such as ``line 3 of run.jsonl``, for the message of an error.

    Raises
    ------
    InputError
        It is not a record.
    """
    try:
        data = json.loads(line)
    except ValueError as error:
        raise InputError(f"`path`: {place} is not JSON ({error}); {_REMEDY}.") from None
    if not isinstance(data, Mapping) or "schema" not in data:
        raise InputError(f"`path`: {place} is not the record of a check; {_REMEDY}.")
    if data["schema"] != SCHEMA:
        raise InputError(
            f"`path`: {place} has schema {data['schema']!r}, and this fastcheck reads schema "
            f"{SCHEMA}; read it with the fastcheck that wrote it."
        )
    missing = [name for name in _REQUIRED if name not in data]
    if missing:
        raise InputError(f"`path`: {place} lacks {', '.join(missing)}; {_REMEDY}.")
    known = {name: kind for name, kind in _FIELDS.items() if name in data}
    return Record(**{name: _read(name, kind, data[name], place) for name, kind in known.items()})


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
    try:
        return os.open(path, flags | getattr(os, "O_BINARY", 0), 0o666)
    except FileNotFoundError:
        folder = path.absolute().parent
        raise InputError(f"`path`: there is no folder {folder}; create it first.") from None
    except OSError as error:
        raise InputError(
            f"`path`: {path} cannot be written ({error.strerror or error}); give another file."
        ) from None


def _append(descriptor: int, line: bytes) -> None:
    """Write a whole line, or nothing: a full disk must not leave half a line for others to join."""
    written = os.write(descriptor, line)
    if written == len(line):
        return
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
    except OSError:
        end = os.lseek(descriptor, 0, os.SEEK_CUR)
        if os.fstat(descriptor).st_size == end:  # else another run has appended to it since
            os.ftruncate(descriptor, end - written)
        raise


def _mend(descriptor: int, path: Path) -> None:
    """Make the file end with a whole line.

    A line that is still without its end after a moment was cut short, not just being written. It
    is removed only from a file of records, and only if it is not a whole record.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    _require_records(descriptor, path)
    start, tail = _last_line(descriptor)
    while tail:
        time.sleep(_PATIENCE)
        if _last_line(descriptor) == (start, tail):
            break
        start, tail = _last_line(descriptor)
    if tail and _is_json(tail):
        os.write(descriptor, b"\n")
    elif tail:
        os.ftruncate(descriptor, start)


def _require_records(descriptor: int, path: Path) -> None:
    """Refuse a file that begins with anything but a record: it is somebody's, and not a log."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    first = os.read(descriptor, len(_OPENING))
    if first != _OPENING[: len(first)]:
        raise InputError(
            f"`path`: {path} exists and holds no records of a monitor; give the name of a new file."
        )


def _last_line(descriptor: int) -> tuple[int, bytes]:
    """Return where what follows the last line break begins, and what it is."""
    place, tail = os.lseek(descriptor, 0, os.SEEK_END), b""
    while place > 0 and b"\n" not in tail:
        block = min(place, _BLOCK)
        place = os.lseek(descriptor, place - block, os.SEEK_SET)
        tail = os.read(descriptor, block) + tail
    begin = tail.rfind(b"\n") + 1
    return place + begin, tail[begin:]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _number_to(value: Any) -> float | str:
    number = float(value)
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"


def _number(found: Any) -> float:
    if isinstance(found, str):
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[found]
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise TypeError
    return float(found)


def _integer(found: Any) -> int:
    if isinstance(found, bool) or not isinstance(found, int):
        raise TypeError
    return found


def _string(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found


def _strings(found: Any) -> tuple[str, ...]:
    if not isinstance(found, list):
        raise TypeError
    return tuple(_string(item) for item in found)


def _verdicts_to(verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    return {str(name): Verdict(verdict).value for name, verdict in verdicts.items()}


def _verdicts(found: Any) -> dict[str, Verdict]:
    if not isinstance(found, Mapping):
        raise TypeError
    return {name: Verdict(verdict) for name, verdict in found.items()}


class _Kind(NamedTuple):
    """How values of a type go into JSON and come back."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


# Numbers may come from NumPy; `int` and `float` make them Python's own.
_KINDS: dict[Any, _Kind] = {
    int: _Kind(int, _integer),
    float: _Kind(_number_to, _number),
    str: _Kind(str, _string),
    Verdict: _Kind(lambda verdict: Verdict(verdict).value, Verdict),
    dict[str, Verdict]: _Kind(_verdicts_to, _verdicts),
    tuple[str, ...]: _Kind(list, _strings),
}
_FIELDS = {name: _KINDS[kind] for name, kind in get_type_hints(Record).items()}
_REQUIRED = [
    field.name
    for field in fields(Record)
    if field.default is MISSING and field.default_factory is MISSING
]


def _read(name: str, kind: _Kind, found: Any, place: str) -> Any:
    try:
        return kind.read(found)
    except (ValueError, TypeError, KeyError, OverflowError):
        shown = repr(found) if len(repr(found)) <= 60 else f"{found!r:.57}..."
        raise InputError(
            f"`path`: {place} has {name} = {shown}, which no record holds; {_REMEDY}."
        ) from None
