"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.timing import Timing


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table: the first column to the left, the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    drawn = ["  ".join(_cells(line, widths)).rstrip() for line in lines]
    return "\n".join([drawn[0], "─" * max(map(len, drawn)), *drawn[1:]])


def _cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return [first, *rest]


def seconds(value: float) -> str:
    """Write a time for a table: three digits, in seconds or milliseconds."""
    return f"{value:,.3g} s" if value < 1e3 and value >= 1 else _extreme(value)


def _extreme(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:,.0f} s"


def spread(timing: Timing) -> str:
    """Write the range of the rounds for a table."""
    return f"{seconds(timing.low)} – {seconds(timing.high)}"


def factor(ratio: Mapping[str, float]) -> str:
    """Write the median and the range of a `Ratio`, as plain data, for a table."""
    median, low, high = (_three_digits(ratio[name]) for name in ("median", "low", "high"))
    return f"{median} ({low} – {high})"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 999.5 else f"{value:,.0f}"


def error(value: float | None) -> str:
    """Write a relative error for a table."""
    return "–" if value is None else f"{value:.1e}"


def named(timing: Timing) -> str:
    """Write a contender's name, marked where its time is extrapolated."""
    return f"{timing.name} *" if timing.extrapolated else timing.name
