"""The table of a report: one row a tensor, never wider than it may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fastcheck.report.data import Report, TensorReport, Verdict, Worst
from fastcheck.report.figures import duration, scientific
from fastcheck.report.layout import columns as columns_of
from fastcheck.report.layout import pad, printable, shorten, shorten_apart
from fastcheck.report.paint import Paint

_GAP = "  "
_NOTHING = "–"
# Tried in turn until the table fits: the column that goes, and how many times its least width a
# shortened column keeps.
_SQUEEZE = (("", 2), ("time", 2), ("", 1), ("shape", 1), ("engine", 1), ("checked", 1))


@dataclass(frozen=True)
class Column:
    """One column: a heading of one or two lines, and a cell a row.

    Attributes
    ----------
    title, over : str
        The heading and the line above it. `over` may run on over the columns to its right.
    cells : tuple of str
        One a row.
    right : bool
        Whether cells stand at the right, as numbers do.
    least : int or None
        The width down to which its cells may be shortened; None where every character counts.
    """

    title: str
    cells: tuple[str, ...]
    over: str = ""
    right: bool = False
    least: int | None = None

    @property
    def width(self) -> int:
        """Terminal columns that the heading and the widest cell take."""
        return max(map(columns_of, (self.title, *self.cells)))


def table(report: Report, paint: Paint, width: int) -> list[str]:
    """Return the table's lines: a heading of two, a rule, and one line a tensor.

    Parameters
    ----------
    report : Report
        The report, with one tensor or more.
    paint : Paint
        Colours the verdicts and dims the heading.
    width : int
        Terminal columns that a line may take; at least 80.
    """
    rows = tuple(report.tensors.values())
    columns = fit(_columns(rows), width)
    widths = [column.width for column in columns]
    rule = "─" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    heading = [_line_over(columns, widths), _line(columns, widths, None), rule]
    body = [_line(columns, widths, row, paint, tensor) for row, tensor in enumerate(rows)]
    return [paint.dim(line.rstrip()) for line in heading] + [line.rstrip() for line in body]


def same_engine(rows: Sequence[TensorReport]) -> bool:
    """Whether one engine did every tensor, so that a column would repeat one word."""
    return len({row.engine_and_device for row in rows}) <= 1


def _columns(rows: Sequence[TensorReport]) -> list[Column]:
    def cells(cell: Callable[[TensorReport], str]) -> tuple[str, ...]:
        return tuple(cell(row) for row in rows)

    columns = [
        Column("tensor", cells(lambda t: printable(t.name)), least=8),
        Column("shape", cells(_shape), least=6),
        Column("verdict", cells(lambda t: verdict_word(t.verdict))),
        Column("checked", cells(lambda t: f"{t.checked:,}"), right=True),
        Column("error", cells(_relative_error), over="relative", right=True),
        Column("resolution", cells(_resolution), right=True),
        Column("index", cells(_worst(worst_index)), over="worst element", least=8),
        Column("analytic", cells(_worst(lambda w: scientific(w.analytic))), right=True),
        Column("numeric", cells(_worst(lambda w: scientific(w.numeric))), right=True),
        Column("engine", cells(lambda t: printable(t.engine_and_device)), least=6),
        Column("time", cells(lambda t: duration(t.seconds)), right=True),
    ]
    unneeded = set()
    if all(row.checked == row.size for row in rows):
        unneeded.add("checked")
    if same_engine(rows):
        unneeded.add("engine")
    return [column for column in columns if column.title not in unneeded]


def fit(columns: Sequence[Column], width: int) -> list[Column]:
    """Return the columns shortened, and if that is not enough fewer of them, to fit `width`.

    What goes first can be read elsewhere in the page, or guessed from the rest of the row.
    """
    fitted = list(columns)
    for go, ease in _SQUEEZE:
        fitted = [column for column in fitted if column.title != go]
        if _total(fitted) > width:
            fitted = [_abbreviated(column) for column in fitted]
        widths = _squeezed(fitted, width, ease)
        if sum(widths) + len(_GAP) * (len(widths) - 1) <= width:
            break
    return [_cut(column, room) for column, room in zip(fitted, widths, strict=True)]


def _squeezed(columns: Sequence[Column], width: int, ease: int) -> list[int]:
    """Return widths: what is too much is taken from the widest that can give, one by one."""
    widths = [column.width for column in columns]

    def gives(i: int) -> bool:
        least = columns[i].least
        return least is not None and widths[i] > least * ease

    for _ in range(_total(columns) - width):
        giving = [i for i in range(len(columns)) if gives(i)]
        if not giving:
            break
        # Half a name can be recognised; half an index is of no use, so it gives last.
        widths[max(giving, key=lambda i: (columns[i].title != "index", widths[i]))] -= 1
    return widths


def _cut(column: Column, width: int) -> Column:
    if column.width <= width:
        return column
    if column.title == "tensor":
        return replace(column, cells=shorten_apart(column.cells, width))
    return replace(column, cells=tuple(shorten(cell, width) for cell in column.cells))


def _abbreviated(column: Column) -> Column:
    if column.title != "verdict":
        return column
    full = verdict_word(Verdict.INCONCLUSIVE)
    return replace(column, cells=tuple("inconcl." if c == full else c for c in column.cells))


def _total(columns: Sequence[Column]) -> int:
    return sum(column.width for column in columns) + len(_GAP) * (len(columns) - 1)


def _line_over(columns: Sequence[Column], widths: Sequence[int]) -> str:
    line, start = "", 0
    for column, width in zip(columns, widths, strict=True):
        if column.over:
            indent = start + (width - len(column.over) if column.right else 0)
            line = line.ljust(indent) + column.over
        start += width + len(_GAP)
    return line


def _line(
    columns: Sequence[Column],
    widths: Sequence[int],
    row: int | None,
    paint: Paint | None = None,
    tensor: TensorReport | None = None,
) -> str:
    """Return row number `row`, or the headings where it is None."""
    parts = []
    for column, width in zip(columns, widths, strict=True):
        part = pad(column.title if row is None else column.cells[row], width, column.right)
        if paint and tensor and column.title == "verdict":
            part = paint.verdict(part, tensor.verdict)
        parts.append(part)
    return _GAP.join(parts)


def verdict_word(verdict: Verdict) -> str:
    """Return the verdict as a table shows it: a failure stands out without colour too."""
    return "FAIL" if verdict is Verdict.FAIL else verdict.value


def worst_index(worst: Worst) -> str:
    """Return the index as Python takes it: ``[3, 7]``, and ``[()]`` for a scalar.

    A part of a complex element follows: ``[3, 7].imag``.
    """
    element = f"[{', '.join(str(int(i)) for i in worst.index) or '()'}]"
    return f"{element}.{printable(worst.part)}" if worst.part else element


def _worst(show: Callable[[Worst], str]) -> Callable[[TensorReport], str]:
    return lambda tensor: _NOTHING if tensor.worst is None else show(tensor.worst)


def _shape(tensor: TensorReport) -> str:
    return "×".join(str(int(length)) for length in tensor.shape) or "scalar"


def _relative_error(tensor: TensorReport) -> str:
    return scientific(tensor.relative_error, 2) if tensor.checked else _NOTHING


def _resolution(tensor: TensorReport) -> str:
    return scientific(tensor.resolution, 2) if tensor.checked else _NOTHING
