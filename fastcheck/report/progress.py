"""A progress bar for checks that take a while: on a terminal only, and gone at the end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from fastcheck.report.figures import duration
from fastcheck.report.layout import columns, head, printable

_PATIENCE = 1.0  # seconds before a bar is worth the reader's attention
_REFRESH = 0.1  # seconds between two drawings; more would only flicker
_BAR = 24


class Progress:
    """A bar that counts to `total`. Use as a context manager; it erases itself on the way out.

    Nothing is written in the first second, and nothing at all where the stream is not a terminal.
    A stream that fails (closed, broken pipe) silences the bar; it never stops the work.

    Parameters
    ----------
    total : int
        The count at the end.
    label : str
        What is being done, such as ``checking W1``. The attribute may be set again at any time.
    stream : text stream, optional
        Where the bar goes; standard error by default.
    enabled : bool, optional
        True draws on any stream, False never; None, the default, on a terminal only.
    clock : callable, optional
        Seconds that only increase; for tests.

    Examples
    --------
    >>> with Progress(7960, "checking") as progress:
    ...     for _ in range(7960):
    ...         progress.advance()
    """

    def __init__(
        self,
        total: int,
        label: str,
        stream: TextIO | None = None,
        enabled: bool | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label = label
        self._total, self._done = total, 0
        # Under pythonw and some daemons there is no standard error at all.
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        self._clock = clock
        self._started = clock()
        self._due = self._started + _PATIENCE
        self._drawn = 0
        self._live = self._wanted(enabled)

    @property
    def done(self) -> int:
        """The count so far."""
        return self._done

    def advance(self, n: int = 1) -> None:
        """Count `n` more, and draw if it is time to."""
        self._done += n
        if self._live and self._clock() >= self._due:
            self._due = self._clock() + _REFRESH
            self._draw()

    def close(self) -> None:
        """Erase the bar. Later calls of `advance` count without drawing."""
        if self._live and self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
        self._live = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _wanted(self, enabled: bool | None) -> bool:
        if self._stream is None or enabled is False:
            return False
        if enabled:
            return True
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def _draw(self) -> None:
        # One column stays free: a full line would scroll some terminals.
        line = head(self._line(), shutil.get_terminal_size().columns - 1)
        # Blanks over what a longer line left behind.
        blanks = " " * (self._drawn - columns(line))
        self._drawn = columns(line)
        self._write(f"\r{line}{blanks}")

    def _line(self) -> str:
        share = min(self._done / self._total, 1.0) if self._total > 0 else 1.0
        return (
            f"{printable(self.label)} {self._bar(share)} {int(share * 100):3d}% · "
            f"{self._done:,} of {self._total:,} · {self._left(share)}"
        )

    def _bar(self, share: float) -> str:
        full = int(share * _BAR)
        return "█" * full + "░" * (_BAR - full)

    def _left(self, share: float) -> str:
        if share <= 0:
            return "…"
        left = (self._clock() - self._started) * (1 - share) / share
        return f"{duration(left)} left"

    def _write(self, text: str) -> None:
        assert self._stream is not None
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        try:
            if not _can_encode(text, encoding):
                text = text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            # A broken pipe or a closed stream: go on without a bar.
            self._live = False


_PLAIN = str.maketrans({"█": "#", "░": ".", "·": "-", "…": "~"})


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
