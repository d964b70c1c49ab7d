"""Following a file of records that another program appends to."""

from __future__ import annotations

import os
from pathlib import Path

from fastcheck.errors import InputError
from fastcheck.monitor.jsonl import record_of
from fastcheck.monitor.record import Record

_LANDMARK = 4096  # bytes before the place that was read up to, to know the file by


class Follower:
    """Reads what has been added to a file since the last look.

    Only whole lines are read: one that is being written, or was cut short when its writer was
    killed, waits for its end. A file that no longer holds what was read from it was replaced, as
    log rotation and a new training do, and is read from its beginning again.

    Parameters
    ----------
    path : str or path
        The file; it need not be there yet.

    Attributes
    ----------
    records : list of Record
        All that the file holds, as far as it was read.
    exists : bool
        Whether there was a file at the last look.
    modified : float
        When it was written last, in seconds since the epoch; 0 without a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self.records: list[Record] = []
        self.exists, self.modified = False, 0.0
        self._offset, self._number, self._landmark = 0, 0, b""

    def look(self) -> list[Record]:
        """Read on, and return the new records.

        Raises
        ------
        InputError
            The file cannot be read, or a whole line of it is not a record.
        """
        try:
            added = self._added()
        except FileNotFoundError:
            # Between two files, or before the first.
            self.exists = False
            return []
        except OSError as error:
            raise InputError(
                f"`FILE`: {self._path} cannot be read ({error.strerror or error}); "
                "give a file that a monitor writes."
            ) from None
        new = []
        for line in added.splitlines():
            self._number += 1
            if line.strip():
                new.append(record_of(line, f"line {self._number} of {self._path}"))
        self.records += new
        return new

    def _added(self) -> bytes:
        """Return the whole lines that follow what was read, and keep the place."""
        with self._path.open("rb") as file:
            self.exists, self.modified = True, os.fstat(file.fileno()).st_mtime
            file.seek(self._offset - len(self._landmark))
            if file.read(len(self._landmark)) != self._landmark:
                self._restart()
                file.seek(0)
            text = file.read()
        added = text[: text.rfind(b"\n") + 1]
        self._offset += len(added)
        self._landmark = (self._landmark + added)[-_LANDMARK:]
        return added

    def _restart(self) -> None:
        self.records = []
        self._offset, self._number, self._landmark = 0, 0, b""
