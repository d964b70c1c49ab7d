"""What every checking command does with a report: show it, save it, turn it into a status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastcheck.commands.terminal import Terminal
from fastcheck.errors import InputError
from fastcheck.report import Report, Verdict

if TYPE_CHECKING:
    from fastcheck.monitor.record import Record

PASS, FAIL, USAGE, INCONCLUSIVE, INTERRUPTED = 0, 1, 2, 3, 130
_STATUS = {Verdict.PASS: PASS, Verdict.FAIL: FAIL, Verdict.INCONCLUSIVE: INCONCLUSIVE}


def status_of(report: Report | Record) -> int:
    """Return the exit status: 0 pass, 1 fail, 3 inconclusive."""
    return _STATUS[report.verdict]


def show(report: Report, terminal: Terminal) -> None:
    """Write the report as text."""
    from fastcheck.report.text import render

    terminal.line(render(report, colour=terminal.colour).rstrip("\n"))


def require_writable(path: str | None) -> None:
    """Refuse a ``--json`` file that cannot be written before the work is done, not after it."""
    if path is None:
        return
    file = Path(path)
    if file.is_dir():
        raise InputError(f"`--json`: {path} is a folder; give the name of a file.")
    if not file.absolute().parent.is_dir():
        raise InputError(f"`--json`: there is no folder {file.parent}; create it first.")


def save(text: str, path: str | None, terminal: Terminal) -> None:
    """Write JSON text to the ``--json`` file, where one is asked for."""
    if path is None:
        return
    try:
        Path(path).write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"`--json`: {path} cannot be written ({reason}).") from None
    terminal.line(f"Written to {path}.")
