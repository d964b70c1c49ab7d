"""A training's checks in a terminal: one line each, or a page that is drawn again and again."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from fastcheck.monitor.record import Record
from fastcheck.monitor.summary import details, failed, sentence, share, spread
from fastcheck.report.data import Verdict
from fastcheck.report.figures import duration, scientific
from fastcheck.report.layout import columns, head, pad, printable, shorten, wrap
from fastcheck.report.paint import Paint

_LEVELS = "▁▂▃▄▅▆▇█"
_NOT_FINITE = "×"
_MARKS = {Verdict.PASS: "·", Verdict.INCONCLUSIVE: "?", Verdict.FAIL: "X"}
_SEVERITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
_PLAIN = str.maketrans("▁▂▃▄▅▆▇█×·–…→", "_.-:=+*#x.-~>")
_LABEL = 21
_SENTENCE_LINES = 4
_FEWEST_ROWS = 3


def line(record: Record) -> str:
    """Return a record as one line, for a pipe."""
    parts = [
        f"step {record.step:,}",
        record.verdict.name,
        f"loss {_figure(record.loss)}",
        f"relative difference {_figure(record.relative_difference)}",
        f"error bar {_figure(record.error_bar)}",
        f"gradient {_figure(record.smallest_gradient)} to {_figure(record.largest_gradient)}",
        duration(record.seconds),
        f"{share(record)} of the training's time",
    ]
    if names := failed(record):
        parts.append(f"fails in {', '.join(names)}")
    return printable(" | ".join([*parts, *record.notes]))


def page(records: Sequence[Record], width: int, height: int, paint: Paint) -> list[str]:
    """Return the records, at least one, as lines that fit a screen.

    Parameters
    ----------
    records : sequence of Record
        In the order in which they were made.
    width, height : int
        The columns and lines that the page may take.
    paint : Paint
        Whether there are colours.
    """
    width = max(width, 20)
    top = [*_sentence(records, width, paint), paint.dim(_details(records, width)), ""]
    curves = [*_curves(records, width, paint), ""]
    room = height - len(top) - len(curves) - 1
    if room < _FEWEST_ROWS:  # a low window: the verdicts matter more than the curves
        curves, room = [], height - len(top) - 1
    table = _table(records[-room:] if room > 0 else [], width, paint)
    return [*top, *curves, *table][: max(height, 1)]


def plain(text: str) -> str:
    """Return a page in ASCII, for a terminal whose encoding has no blocks."""
    return text.translate(_PLAIN)


def _sentence(records: Sequence[Record], width: int, paint: Paint) -> list[str]:
    lines = wrap(sentence(records), width)
    if len(lines) > _SENTENCE_LINES:
        rest = " ".join(lines[_SENTENCE_LINES - 1 :])
        lines = [*lines[: _SENTENCE_LINES - 1], shorten(rest, width, tail_width=0)]
    worst = max((record.verdict for record in records), key=_SEVERITY.index)
    return [paint.verdict(text, worst) for text in lines]


def _details(records: Sequence[Record], width: int) -> str:
    """Return as many of the details as fit into a line."""
    first, *rest = details(records).split(" · ")
    text = head(first, width)
    for part in rest:
        if columns(f"{text} · {part}") <= width:
            text = f"{text} · {part}"
    return text


class _Curve(NamedTuple):
    label: str
    value: Callable[[Record], float]
    log: bool = True


_CURVES = (
    _Curve("loss", lambda record: record.loss, log=False),
    _Curve("relative difference", lambda record: record.relative_difference),
    _Curve("error bar", lambda record: record.error_bar),
    _Curve("largest gradient", lambda record: record.largest_gradient),
    _Curve("smallest gradient", lambda record: record.smallest_gradient),
)
_TOGETHER = ("relative difference", "error bar")
"""Curves that are there to be compared have one scale."""


def _curves(records: Sequence[Record], width: int, paint: Paint) -> list[str]:
    room = width - _LABEL - 22
    if room < 8:
        return []
    groups = _grouped(records, room)
    lines = []
    for curve in _CURVES:
        values = [_worst_value([curve.value(record) for record in group]) for group in groups]
        scale = _scale(records, curve)
        first, last = _figure(curve.value(records[0])), _figure(curve.value(records[-1]))
        label = paint.dim(pad(curve.label, _LABEL))
        lines.append(f"{label}{pad(_sparkline(values, *scale), room)}  {first} → {last}")
    verdicts = [max((r.verdict for r in group), key=_SEVERITY.index) for group in groups]
    marks = "".join(paint.verdict(_MARKS[verdict], verdict) for verdict in verdicts)
    return [*lines, paint.dim(pad("verdict", _LABEL)) + marks]


def _grouped(records: Sequence[Record], room: int) -> list[Sequence[Record]]:
    """Return the records in at most `room` groups, in order and about as large."""
    count = min(len(records), room)
    edges = [n * len(records) // count for n in range(count + 1)]
    return [records[first:last] for first, last in pairwise(edges)]


def _worst_value(values: Sequence[float]) -> float:
    """Return the largest value, or the first that is not finite: a group must not hide it."""
    return next((value for value in values if not math.isfinite(value)), max(values))


def _scale(records: Sequence[Record], curve: _Curve) -> tuple[float, float, bool]:
    """Return the least and the greatest value of a curve's scale, and whether it is logarithmic."""
    together = [other for other in _CURVES if other.label in _TOGETHER]
    shown = together if curve.label in _TOGETHER else [curve]
    values = [one.value(record) for one in shown for record in records]
    finite = [value for value in values if math.isfinite(value)]
    if not curve.log and not spread(finite):
        return min(finite, default=0.0), max(finite, default=0.0), False
    positive = [value for value in finite if value > 0]
    return min(positive, default=1.0), max(positive, default=1.0), True


def _sparkline(values: Sequence[float], low: float, high: float, log: bool) -> str:
    def level(value: float) -> str:
        if not math.isfinite(value):
            return _NOT_FINITE
        if log:
            value, least, most = (math.log(max(v, low)) for v in (value, low, high))
        else:
            value, least, most = value / 2, low / 2, high / 2  # so that no difference overflows
        share = (value - least) / (most - least) if most > least else 0.0
        return _LEVELS[min(int(share * len(_LEVELS)), len(_LEVELS) - 1)]

    return "".join(map(level, values))


class _Column(NamedTuple):
    title: str
    text: Callable[[Record], str]


_TABLE = (
    _Column("step", lambda record: f"{record.step:,}"),
    _Column("verdict", lambda record: record.verdict.name),
    _Column("difference", lambda record: _figure(record.relative_difference)),
    _Column("error bar", lambda record: _figure(record.error_bar)),
    _Column("loss", lambda record: _figure(record.loss)),
    _Column("smallest", lambda record: _figure(record.smallest_gradient)),
    _Column("largest", lambda record: _figure(record.largest_gradient)),
    _Column("time", lambda record: duration(record.seconds)),
    _Column("share", share),
)


def _table(records: Sequence[Record], width: int, paint: Paint) -> list[str]:
    """Return the records as rows under a head, as many columns as there is room for."""
    cells = [[column.text(record) for column in _TABLE] for record in records]
    widths = [
        max(len(column.title), *(columns(row[n]) for row in cells)) if cells else len(column.title)
        for n, column in enumerate(_TABLE)
    ]
    count = sum(sum(widths[: n + 1]) + 2 * n <= width for n in range(len(widths)))
    first = "  ".join(
        pad(c.title, w, right=True) for c, w in zip(_TABLE[:count], widths, strict=False)
    )
    rest = width - columns(first) - 2
    lines = [paint.dim(first)]
    for record, row in zip(records, cells, strict=True):
        texts = [pad(text, w, right=True) for text, w in zip(row[:count], widths, strict=False)]
        if count > 1:
            texts[1] = paint.verdict(texts[1], record.verdict)
        names = shorten(printable(", ".join(failed(record))), rest) if rest >= 4 else ""
        lines.append("  ".join([*texts, names] if names else texts))
    return lines


def _figure(value: float) -> str:
    if not 0.1 <= abs(value) < 999.5:
        return scientific(value, 2)
    return f"{value:#.3g}".rstrip(".")
