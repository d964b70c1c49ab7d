"""What the checks of a training say together: the sentence that every view of them leads with.

The question is always the same: the relative difference between the analytic and the numerical
gradient rises along the training; is the gradient wrong, or is it the check? The error bar answers
it: it is how far the numerical gradient may be off by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from fastcheck.monitor.record import Record
from fastcheck.report.data import Verdict
from fastcheck.report.figures import count, duration, scientific

_RISE = 10.0  # how many times as large a difference must become to need an explanation
_MOST_NAMES = 3


def sentence(records: Sequence[Record]) -> str:
    """Return what the records, at least one, say about the gradient."""
    failing = [record for record in records if record.verdict is Verdict.FAIL]
    undecided = [record for record in records if record.verdict is Verdict.INCONCLUSIVE]
    if failing:
        return f"FAIL {_when(records, failing)}{_tensors(failing[0])}{_why(failing[0])}."
    if undecided:
        return f"{_undecided(records, undecided)}{_why(undecided[0])}."
    return f"{_right(records)}{_differences(records)}."


def details(records: Sequence[Record]) -> str:
    """Return how much was checked, and what it cost."""
    steps = sorted({record.step for record in records})
    where = f"step {steps[0]:,}" if len(steps) == 1 else f"steps {steps[0]:,} to {steps[-1]:,}"
    spent = math.fsum(record.seconds for record in records if math.isfinite(record.seconds))
    parts = [f"{count(len(records), 'check')}, {where}", f"{_compared(records)} each"]
    parts.append(f"{duration(spent)} of checking")
    if math.isfinite(records[-1].share):
        parts.append(f"{share(records[-1])} of the training's time")
    return " · ".join(parts)


def share(record: Record) -> str:
    """Return what the checks have taken of the training's time: ``3.1%``."""
    if not math.isfinite(record.share):
        return "–"
    return f"{record.share:.1%}" if record.share < 0.0995 else f"{record.share:.0%}"


def runs(records: Sequence[Record]) -> list[list[Record]]:
    """Return the records cut where the step does not go on: a file may hold several trainings."""
    found: list[list[Record]] = []
    for record in records:
        if found and record.step > found[-1][-1].step:
            found[-1].append(record)
        else:
            found.append([record])
    return found


def failed(record: Record) -> tuple[str, ...]:
    """Return the names of a record's failing tensors."""
    return tuple(name for name, verdict in record.tensors.items() if verdict is Verdict.FAIL)


def spread(values: Sequence[float]) -> bool:
    """Tell whether values need a logarithmic scale: all positive, and far apart."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / 100 > min(finite)


def _compared(records: Sequence[Record]) -> str:
    """Say what the checks compared; under a budget they do not all compare the same."""
    modes = dict.fromkeys(record.mode for record in records)
    parts = []
    for mode in modes:
        some = [record.compared for record in records if record.mode == mode]
        times = f"{len(some):,} of " if len(modes) > 1 else ""
        parts.append(f"{times}{_amount(mode, min(some), max(some))}")
    return ", ".join(parts)


def _amount(mode: str, least: int, most: int) -> str:
    number = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    if mode == "full":
        return f"all {number} elements" if most != 1 else "the one element"
    noun = "random direction" if mode == "directions" else "sampled element"
    return f"{number} {noun}{'s' if most != 1 else ''}"


def _right(records: Sequence[Record]) -> str:
    # A sample that passes is no proof of the elements that were not in it.
    verb = "is right at" if all(record.mode == "full" for record in records) else "passes"
    if len(records) == 1:
        return f"The gradient {verb} the one check, step {records[0].step:,}"
    return f"The gradient {verb} all {len(records):,} checks"


def _differences(records: Sequence[Record]) -> str:
    """Say how the relative differences compare with their error bars."""
    known = [record for record in records if not math.isnan(record.relative_difference)]
    if not known:
        return ""
    if any(record.relative_difference > record.error_bar for record in known):
        most = max(record.relative_difference for record in known)
        return f"; the relative difference is at most {scientific(most, 2)}, within tolerance"
    if len(known) == 1:
        return "; the relative difference is within its error bar"
    if len(runs(known)) == 1 and (rise := _rise(known)):
        return (
            f"; the relative difference rises {rise} but stays within its error bar: "
            "the check's own error explains it"
        )
    return "; the relative difference never exceeds its error bar"


def _rise(records: Sequence[Record]) -> str | None:
    """Return how far the difference rose over the training; None if not much."""
    part = max(len(records) // 5, 1)
    before = median(record.relative_difference for record in records[:part])
    after = median(record.relative_difference for record in records[-part:])
    if not 0 < before * _RISE < after < math.inf:
        return None
    return f"from {scientific(before, 2)} to {scientific(after, 2)}"


def _when(records: Sequence[Record], failing: Sequence[Record]) -> str:
    first = records.index(failing[0])
    step = f"step {failing[0].step:,}"
    if len(records) == 1:
        return f"at the one check, {step}"
    if len(failing) == len(records):
        return f"at all {len(records):,} checks"
    passed = [record for record in records[:first] if record.verdict is Verdict.PASS]
    since = f" (right at step {passed[-1].step:,})" if passed else ""
    if len(failing) == 1:
        return f"at {step}, one of {len(records):,} checks{since}"
    if len(failing) == len(records) - first:
        return f"from {step} on{since}"
    return f"at {len(failing):,} of {len(records):,} checks, first at {step}{since}"


def _tensors(record: Record) -> str:
    names = failed(record)
    if not names:
        return ""
    if len(names) > _MOST_NAMES:
        more = len(names) - _MOST_NAMES + 1
        return f", in {', '.join(names[: _MOST_NAMES - 1])} and {more:,} more tensors"
    *others, last = names
    return f", in {', '.join(others)} and {last}" if others else f", in {last}"


def _undecided(records: Sequence[Record], undecided: Sequence[Record]) -> str:
    if len(records) == 1:
        return f"The one check, step {records[0].step:,}, could not decide"
    if len(undecided) == len(records):
        return f"None of the {len(records):,} checks could decide"
    return (
        f"No error found: {len(records) - len(undecided):,} of {len(records):,} checks pass and "
        f"{len(undecided):,} could not decide, first at step {undecided[0].step:,}"
    )


def _why(record: Record) -> str:
    return f": {record.notes[0].strip().rstrip('.')}" if record.notes else ""
