"""Text in terminal columns: how wide it is, how to shorten it, and how to break it into lines.

Widths are terminal columns, not characters: names come from dict keys and may be in any script.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

ELLIPSIS = "…"


def printable(text: str) -> str:
    """Return `text` with what a terminal cannot print, or would obey, written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def columns(text: str) -> int:
    """Return how many terminal columns printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_character_columns, text))


def _character_columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, width: int, right: bool = False) -> str:
    """Return `text` filled with spaces to `width` columns, on its left if it goes to the right."""
    blanks = " " * (width - columns(text))
    return blanks + text if right else text + blanks


def head(text: str, width: int) -> str:
    """Return the longest beginning of `text` that takes at most `width` columns."""
    used = 0
    for position, character in enumerate(text):
        used += _character_columns(character)
        if used > width:
            return text[:position]
    return text


def shorten(text: str, width: int, tail_width: int | None = None) -> str:
    """Return `text` in at most `width` columns, an ellipsis in place of its middle.

    Parameters
    ----------
    text : str
        Printable text.
    width : int
        Columns that the result may take; at least 1.
    tail_width : int, optional
        Columns to keep of the end; half of them by default.
    """
    if columns(text) <= width:
        return text
    room = width - 1
    tail = head(text[::-1], (room + 1) // 2 if tail_width is None else tail_width)[::-1]
    return head(text, room - columns(tail)) + ELLIPSIS + tail


def shorten_apart(names: Sequence[str], width: int) -> tuple[str, ...]:
    """Return names shortened alike, so that as many as can be told apart still can.

    ``encoder.layers[0].W`` and ``encoder.layers[0].b`` differ at the end, ``layers[0].attention.W``
    and ``layers[1].attention.W`` in the middle: where the ellipsis stands decides it. Names that
    share long beginnings and long ends, as deep trees have them, keep a piece of their middle.
    """
    best: tuple[str, ...] = tuple(shorten(name, width) for name in names)
    apart, wanted = len(set(best)), len(set(names))
    for cut in _cuts(width, max(map(len, names))):
        if apart == wanted:
            break
        tried = tuple(name if columns(name) <= width else cut(name) for name in names)
        if len(set(tried)) > apart:
            best, apart = tried, len(set(tried))
    return best


def _cuts(width: int, longest: int) -> Iterator[Callable[[str], str]]:
    """Every way to shorten that `shorten_apart` tries, the plainest first."""
    for tail in sorted(range(width), key=lambda tail: abs(2 * tail - width)):
        yield partial(shorten, width=width, tail_width=tail)
    for start in range(longest):
        yield partial(_middle, start=start, width=width)


def _middle(name: str, start: int, width: int) -> str:
    """Return a few characters of both ends, and what fits of the middle from `start` on."""
    first, last = head(name, 4), head(name[::-1], 2)[::-1]
    room = width - columns(first) - columns(last) - 2
    if room < 1:
        return shorten(name, width)
    return f"{first}{ELLIPSIS}{head(name[start:], room)}{ELLIPSIS}{last}"


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Return sentences as lines of at most `width` columns.

    Parameters
    ----------
    text : str
        Any text; runs of white space, line breaks included, count as one space.
    width : int
        Columns that a line may take, its prefix included.
    first, rest : str
        Prefixes of the first line and of the others.
    """
    return wrap_words(map(printable, text.split()), width, first, rest)


def wrap_words(words: Iterable[str], width: int, first: str = "", rest: str = "") -> list[str]:
    """Return words packed into lines; only a word wider than a line is broken."""
    lines: list[str] = []
    line, empty = first, True
    for word in words:
        if not empty and columns(line) + 1 + columns(word) > width:
            lines.append(line)
            line, empty = rest, True
        while columns(line) + (not empty) + columns(word) > width:
            piece = head(word, width - columns(line)) or word[:1]
            lines.append(line + piece)
            line, word = rest, word[len(piece) :]
        line, empty = (line + word, False) if empty else (f"{line} {word}", False)
    return [part.rstrip() for part in [*lines, line]]
