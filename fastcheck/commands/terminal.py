"""Plain text on standard output, with colour only where a person is looking."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

_BOLD, _DIM, _END = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True)
class Terminal:
    """Where a command writes. ``colour`` says whether escape sequences may be used."""

    colour: bool = False

    def line(self, text: str = "") -> None:
        """Write one line (or a whole page) and show it at once."""
        print(text, flush=True)

    def field(self, label: str, text: str, width: int = 13) -> None:
        """Write an indented line ``label  text``, labels in one column."""
        self.line(f"  {self.dim(label.ljust(width))}{text}")

    def bold(self, text: str) -> str:
        """Return the text, bold where colour is on."""
        return f"{_BOLD}{text}{_END}" if self.colour else text

    def dim(self, text: str) -> str:
        """Return the text, dimmed where colour is on."""
        return f"{_DIM}{text}{_END}" if self.colour else text


def wants_colour(
    stream: TextIO, *, refused: bool = False, environ: Mapping[str, str] = os.environ
) -> bool:
    """Tell whether to colour: a terminal, and neither ``--no-color`` nor NO_COLOR nor TERM=dumb."""
    if refused or environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def forgive_encoding() -> None:
    """Let streams that cannot show a character (θ, ×) show a ``?`` instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
