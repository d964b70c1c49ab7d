"""``fastcheck watch FILE.jsonl``: the checks of a training that is running, as they come."""

from __future__ import annotations

import os
import shutil
import sys
import time
from argparse import Namespace
from pathlib import Path

from fastcheck.commands import output
from fastcheck.commands.terminal import Terminal
from fastcheck.errors import InputError
from fastcheck.monitor.follow import Follower
from fastcheck.monitor.jsonl import read_jsonl
from fastcheck.monitor.screen import line, page, plain
from fastcheck.report.data import Verdict
from fastcheck.report.figures import duration
from fastcheck.report.layout import head, printable
from fastcheck.report.paint import Paint

_STATUS = {
    Verdict.PASS: output.PASS,
    Verdict.FAIL: output.FAIL,
    Verdict.INCONCLUSIVE: output.INCONCLUSIVE,
}
_CLEAR, _END_LINE, _END_SCREEN = "\x1b[2J\x1b[H", "\x1b[K", "\x1b[J"


def run(arguments: Namespace, terminal: Terminal) -> int:
    """Show the file's records until Ctrl-C, or once, and return the exit status."""
    file = Path(arguments.file)
    if file.is_dir():
        raise InputError(f"`FILE`: {file} is a folder; give the file in it.")
    draws = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    if arguments.once:
        return _once(file, terminal, draws)
    try:
        if draws:
            _draw_forever(file, arguments.interval, terminal)
        _print_forever(file, arguments.interval, terminal)
    except KeyboardInterrupt:
        # The end of the watching, and no work was cut short.
        if draws:
            terminal.line()
    return output.PASS


def _once(file: Path, terminal: Terminal, draws: bool) -> int:
    records = read_jsonl(file)
    if not records:
        raise InputError(f"`FILE`: {file} holds no record yet; wait for the first check.")
    if draws:
        width, height = shutil.get_terminal_size()
        lines = page(records, width - 1, height - 1, Paint(terminal.colour))
        terminal.line(_encodable("\n".join(lines)))
    else:
        for record in records:
            terminal.line(line(record))
    return _STATUS[records[-1].verdict]


def _print_forever(file: Path, interval: float, terminal: Terminal) -> None:
    follower = Follower(file)
    new = follower.look()
    if not follower.exists:
        print(f"fastcheck: waiting for {file}; Ctrl-C ends.", file=sys.stderr, flush=True)
    while True:
        for record in new:
            terminal.line(line(record))
        time.sleep(interval)
        new = follower.look()


def _draw_forever(file: Path, interval: float, terminal: Terminal) -> None:
    follower, screen, paint = Follower(file), _Screen(), Paint(terminal.colour)
    lines: list[str] = []
    while True:
        before = len(follower.records)
        new = follower.look()
        resized = screen.measure()
        if resized or new or len(follower.records) != before:
            # Two lines are left: the foot, and one so that nothing scrolls.
            size = screen.width - 1, screen.height - 2
            lines = page(follower.records, *size, paint) if follower.records else []
        # Room for the ^C that a terminal shows.
        foot = paint.dim(head(_foot(file, follower), screen.width - 4))
        screen.draw([*lines, foot])
        time.sleep(interval)


def _foot(file: Path, follower: Follower) -> str:
    name = printable(str(file))
    if not follower.exists:
        return f"Waiting for {name}. Ctrl-C ends."
    if not follower.records:
        return f"{name} holds no record yet. Ctrl-C ends."
    age = max(time.time() - follower.modified, 0.0)
    if age < 2:
        ago = "just now"
    else:
        ago = f"{age:.0f} s ago" if age < 100 else f"{duration(age)} ago"
    return f"Last written {ago}. Ctrl-C ends. {name}"


class _Screen:
    """A page that is drawn over itself, below what the terminal showed before."""

    def __init__(self) -> None:
        self.width, self.height = 0, 0
        self._drawn = 0
        self._moved = False

    def measure(self) -> bool:
        """Look how large the terminal is, and tell whether that is new."""
        size = shutil.get_terminal_size()
        changed = size != (self.width, self.height)
        # A terminal that changes its size moves what it shows; the first size is no change.
        self._moved = changed and self._drawn > 0
        self.width, self.height = size
        return changed

    def draw(self, lines: list[str]) -> None:
        """Draw the lines in the place of those that were drawn last."""
        up = _CLEAR if self._moved else f"\x1b[{self._drawn - 1}A\r" if self._drawn > 1 else "\r"
        text = "\n".join(line + _END_LINE for line in lines)
        sys.stdout.write(_encodable(f"{up}{text}{_END_SCREEN}"))
        sys.stdout.flush()
        self._drawn = len(lines)


def _encodable(text: str) -> str:
    """Return the text as it is if the terminal can show it, and in ASCII if not."""
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return plain(text)
    return text
