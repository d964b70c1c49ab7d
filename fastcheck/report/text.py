"""A report as a page for a terminal: headline, table, then what the reader should act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from fastcheck.report.data import Report, TensorReport, Verdict, Worst
from fastcheck.report.figures import count, duration, ratio, scientific, telling_digits
from fastcheck.report.layout import printable, wrap, wrap_words
from fastcheck.report.paint import Paint
from fastcheck.report.table import same_engine, table, worst_index

_LEAST_WIDTH = 80
_LARGE = 0.1
"""A relative error that nobody expects of a pass."""
_INDENT = "  "
_NAMES_SHOWN = 6
_EXPECTED_ENGINES = ("replay", "fused")
_FOOTNOTE = (
    "relative error: ‖a−n‖ / (‖a‖+‖n‖) · resolution: the least relative error this check could see"
)
# A line of the user's file is no figure: it is where to look.
_FIGURE = re.compile(r"(?<![\w:.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.]*:\d)\b|\b(?:nan|inf)\b")
_DIFFERENCES = {"central": "central differences", "forward": "forward differences"}


def render(report: Report, colour: bool = False, width: int = 100) -> str:
    """Return the report as text, without a line break at its end.

    Parameters
    ----------
    report : Report
        The report to show.
    colour : bool
        Whether to use ANSI colours. The text is the same with and without.
    width : int
        Terminal columns that a line may take; less than 80 counts as 80.

    Returns
    -------
    str
        The page. No line is wider than `width`, whatever the report holds.
    """
    paint, width = Paint(colour), max(width, _LEAST_WIDTH)
    blocks = [_headline(report, paint, width)]
    if report.tensors:
        blocks.append(_table(report, paint, width))
    blocks += _failures(report, paint, width)
    blocks.append(_diagnosis(report, paint, width))
    blocks += _open_questions(report, width)
    blocks.append(_notes(report, paint, width))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _headline(report: Report, paint: Paint, width: int) -> list[str]:
    word = report.verdict.value.upper()
    facts = [
        f"{report.checked:,} of {count(report.size, 'parameter')}",
        f"{count(report.forward_passes, 'forward pass', 'forward passes')} stood for",
        duration(report.seconds),
        f"loss {_loss(report.loss)}",
    ]
    indent = " " * (len(word) + 2)
    first, *others = _dotted(facts, width, f"{word}  ", indent)
    first = paint.verdict(word, report.verdict) + first[len(word) :]
    return [first, *others, *map(paint.dim, _dotted(_means(report), width))]


def _means(report: Report) -> list[str]:
    """How the figures came about: method, engine, and what the user's function was asked."""
    rows = tuple(report.tensors.values())
    facts = [_DIFFERENCES.get(report.method, printable(report.method))]
    if rows and same_engine(rows) and rows[0].engine:
        facts.append(f"engine {printable(rows[0].engine_and_device)}")
    facts.append(f"relative error {scientific(report.relative_error, 2)} overall")
    facts.append(f"loss called {count(report.loss_calls, 'time')}")
    return facts


def _dotted(facts: list[str], width: int, first: str = "", rest: str = "") -> list[str]:
    words = [f"{fact} ·" for fact in facts[:-1]] + facts[-1:]
    return wrap_words(words, width, first, rest)


def _loss(loss: float) -> str:
    # Five digits are what people print in their training loops.
    return f"{loss:.5g}"


def _table(report: Report, paint: Paint, width: int) -> list[str]:
    lines = table(report, paint, width)
    return lines if report.passed else [*lines, *map(paint.dim, wrap(_FOOTNOTE, width))]


def _failures(report: Report, paint: Paint, width: int) -> list[list[str]]:
    """One block a failing tensor: where and how much, then why."""
    failing = (t for t in report.tensors.values() if t.verdict is Verdict.FAIL)
    return [_failure(tensor, paint, width) for tensor in failing]


def _failure(tensor: TensorReport, paint: Paint, width: int) -> list[str]:
    if tensor.worst is None:
        return wrap(f"{tensor.name}: {tensor.reason or 'fail'}", width, rest=_INDENT)
    lines = wrap(f"{_place(tensor, tensor.worst)}: {_numbers(tensor.worst)}", width, rest=_INDENT)
    reason = wrap(tensor.reason, width, _INDENT, _INDENT) if tensor.reason.strip() else []
    return [paint.bold(line) for line in lines] + reason


def _diagnosis(report: Report, paint: Paint, width: int) -> list[str]:
    """Why: one item a mistake."""
    findings = () if report.diagnosis is None else report.diagnosis.findings
    lines = [line for f in findings for line in wrap(str(f), width, _INDENT, _INDENT * 2)]
    return [paint.bold("Diagnosis"), *lines] if lines else []


def _place(tensor: TensorReport, worst: Worst) -> str:
    if worst.index:
        return f"{tensor.name} {worst_index(worst)}"
    return f"{tensor.name}.{worst.part}" if worst.part else tensor.name


def _numbers(worst: Worst) -> str:
    digits = telling_digits(worst.analytic, worst.numeric)
    text = (
        f"analytic {scientific(worst.analytic, digits)}, "
        f"numeric {scientific(worst.numeric, digits)} ± {scientific(worst.error_bar, 1)}"
    )
    # A quotient by what may well be zero would mislead.
    known = abs(worst.numeric) > worst.error_bar
    quotient = ratio(worst.analytic, worst.numeric) if known else None
    return f"{text} (ratio {quotient})" if quotient else text


def _open_questions(report: Report, width: int) -> list[list[str]]:
    """One block for each reason why tensors are inconclusive."""
    unsettled = (t for t in report.tensors.values() if t.verdict is Verdict.INCONCLUSIVE)
    said = _grouped(report, ((t.name, f": inconclusive. {t.reason}") for t in unsettled))
    return [wrap(line, width, rest=_INDENT) for line in said]


def _notes(report: Report, paint: Paint, width: int) -> list[str]:
    tensors = tuple(report.tensors.values())
    said = [note for note in dict.fromkeys(report.notes) if note.strip()]
    said += _grouped(report, ((t.name, f": {note}") for t in tensors for note in _tensor_notes(t)))
    said += _grouped(report, ((t.name, _engine_note(t)) for t in tensors), _alike)
    lines = [line for note in said for line in wrap(note, width, _INDENT, _INDENT * 2)]
    return [paint.bold("Notes"), *lines] if lines else []


def _tensor_notes(tensor: TensorReport) -> list[str]:
    notes = [note for note in tensor.notes if note.strip()]
    # 0 is a pass by default (0 = 0, nothing checked), and 1 is one between rounding errors.
    telling = tensor.relative_error == 0 or tensor.relative_error > _LARGE
    if tensor.verdict is Verdict.PASS and telling and tensor.reason.strip():
        notes.insert(0, tensor.reason)
    return notes


def _engine_note(tensor: TensorReport) -> str:
    if tensor.engine in _EXPECTED_ENGINES or not tensor.engine_reason:
        return ""
    return f" by the {tensor.engine} engine: {tensor.engine_reason}"


def _alike(name: str, reason: str) -> str:
    """Return a reason without what is the tensor's own: its name, and figures measured on it."""
    own = rf"(?<![\w.]){re.escape(name)}(?![\w.]|\[)(?:\[[\d, ]*\])?"
    return _FIGURE.sub("#", re.sub(own, "@", reason))


def _same(name: str, predicate: str) -> str:
    return predicate


def _grouped(
    report: Report,
    said: Iterable[tuple[str, str]],
    key: Callable[[str, str], str] = _same,
) -> list[str]:
    """Return what is said of tensors, given as (name, predicate), each predicate once.

    Predicates with the same key are one; the first stands for all of them.
    """
    groups: dict[str, tuple[str, list[str]]] = {}
    for name, predicate in said:
        if predicate:
            groups.setdefault(key(name, predicate), (predicate, []))[1].append(name)
    return [_listed(names, len(report.tensors)) + said for said, names in groups.values()]


def _listed(names: list[str], tensors: int) -> str:
    if len(names) == tensors > 1:
        return "every tensor"
    more = len(names) - _NAMES_SHOWN
    # Never "and 1 more": its name takes no more room.
    if more <= 1:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMES_SHOWN])} and {more} more"
