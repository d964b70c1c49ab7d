"""A monitor in a training loop: what it takes, what it catches, and what it leaves behind.

- Overhead: 784-10-10 on the embedded digits, alone and with a budget of one percent in turns, and
  what a check of each mode takes.
- Catches: bugs in networks of many seeds, within five checks of the same budget; right gradients
  beside them, which must never fail. They are counted on a clock of their own, and not timed.
- A full check the first time, again, and by `fastcheck.check`.
- The first source system, checked at each of its 250 steps, right and with every bug that applies.
- Memory over a thousand checks.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks import results
from benchmarks.machine import describe, environment
from benchmarks.monitored import catches, first_source, memory, overhead, repeated
from benchmarks.options import positive
from benchmarks.tables import factor, seconds, spread, table
from benchmarks.timing import Ratio, Timing, ratio
from benchmarks.trusted.counts import Rate
from benchmarks.workers import workers
from fastcheck.devices.cpu import usable_cores
from fastcheck.errors import FastcheckError

SUMMARY = "a monitor in a training loop: overhead, catches, false alarms, memory"
MOST_OVERHEAD = 0.015
"""Of the training's time, with a budget of one percent."""
CAUGHT = 0.99
"""The share of seeds in which a bug has to be caught within five checks."""
UNSURE = "one element ×2"
"""One direction misses it now and then, which is said in every report of directions."""

Rows = list[dict[str, Any]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--repeats", type=positive, metavar="R", help="rounds of trainings")
    parser.add_argument("--seeds", type=positive, metavar="N", help="networks to plant bugs in")
    parser.add_argument("--starts", type=positive, metavar="N", help="of the first source")
    parser.add_argument(
        "--processes", type=positive, metavar="P", default=usable_cores(), help="at a time"
    )
    parser.add_argument(
        "--quick", action="store_true", help="300 steps, 1 round, 2 seeds, 10 steps of the source"
    )
    results.add_arguments(parser)


def run(arguments: Namespace) -> dict[str, Rows]:
    """Measure, print the tables, and return them as plain data.

    Raises
    ------
    FastcheckError
        After all is printed and saved: a right gradient failed, a bug was missed, or what must
        not grow did.
    """
    results.prepare(arguments)
    machine = environment()
    print(describe(machine))
    quick = arguments.quick
    steps, repeats = (300, 1) if quick else (2000, 41)
    repeats = arguments.repeats or repeats
    seeds = arguments.seeds or (2 if quick else 100)
    starts = arguments.starts or (1 if quick else 10)
    iterations = 10 if quick else 250
    checks = 50 if quick else 1000
    found = {
        **_overhead(overhead.measure(steps, repeats)),
        "repeated": _repeated(*repeated.measure(3 if quick else 15)),
        "memory": _memory([memory.measure(mode, checks) for mode in ("directions", "full")]),
    }
    with workers(arguments.processes) as mapped:
        every = [one for some in mapped(catches.caught, range(seeds)) for one in some]
        runs = list(mapped(partial(first_source.run, iterations=iterations), range(starts)))
    found["catches"] = _catches(every)
    found["first source"] = _first_source(runs, iterations)
    if arguments.save:
        settings = {
            "steps": steps,
            "repeats": repeats,
            "seeds": seeds,
            "starts": starts,
            "iterations": iterations,
            "quick": quick,
        }
        sections = [{"section": name, "rows": rows} for name, rows in found.items()]
        print(f"\n{results.save('monitor', machine, settings, sections, arguments.out)}")
    refuse(found, timed=not quick)
    return found


def _more(ratio: Ratio) -> str:
    return f"{ratio.median - 1:.2%} ({ratio.low - 1:.2%} – {ratio.high - 1:.2%})"


def _overhead(found: overhead.Overhead) -> dict[str, Rows]:
    print(f"\n784-10-10, {found.iterations:,} steps in turns; every=100\n")
    more = vars(found.whole)
    lines = [[one.name, seconds(one.median), spread(one)] for one in found.timings]
    print(table(("training", "median", "range"), lines))
    gaps = [after.step - before.step for before, after in pairwise(found.budgeted)]
    share = found.budgeted[-1].share if found.budgeted else 0.0
    print(
        f"\nWith the budget it takes {_more(found.whole)} more time (a training without, against "
        f"itself: {_more(found.noise)}); {len(found.budgeted)} checks in the first of these "
        f"trainings, {share:.2%} of its time by the monitor's own count; steps between two "
        f"checks: {', '.join(map(str, gaps)) or '–'}"
    )
    print("\nA check of each mode, in trainings of their own\n")
    modes = found.modes()
    headers = ("mode", "first", "later, median", "range", "steps apart at 1%", "false FAILs")
    cells = [
        [
            row["mode"],
            seconds(row["first"]),
            seconds(row["median"]),
            f"{seconds(row['low'])} – {seconds(row['high'])}",
            f"{row['steps_apart']:,.0f}",
            str(row["false_fails"]),
        ]
        for row in modes
    ]
    print(table(headers, cells))
    whole = {
        "ratio": more,
        "noise": vars(found.noise),
        "checks": len(found.budgeted),
        "share": share,
        "gaps": gaps,
        "timings": [one.to_dict() for one in found.timings],
    }
    return {"overhead": [whole], "modes": modes}


def _repeated(timings: list[Timing], calls: dict[str, int]) -> Rows:
    print("\nA full check of 784-10-10, in turns\n")
    again = next(one for one in timings if one.name == repeated.AGAIN)
    rows = [
        {**one.to_dict(), "calls": calls[one.name], "times_as_long": vars(ratio(one, again))}
        for one in timings
    ]
    headers = ("check", "median", "range", "loss called", "times as long (range)")
    cells = [
        [
            one.name,
            seconds(one.median),
            spread(one),
            str(row["calls"]),
            factor(row["times_as_long"]),
        ]
        for one, row in zip(timings, rows, strict=True)
    ]
    print(table(headers, cells))
    return rows


def _memory(rows: Rows) -> Rows:
    print("\nMemory that checks leave, their records included\n")
    cells = [
        [row["mode"], f"{row['checks']:,}", f"{row['grown']:,} bytes", f"{row['each']:.0f} bytes"]
        for row in rows
    ]
    print(table(("mode", "checks", "grown by", "a check"), cells))
    return rows


def _catches(every: list[catches.Caught]) -> Rows:
    most = catches.CHECKS
    print(f"\nBugs caught within {most} checks of budget={catches.BUDGET}, and the rate's 95%\n")
    rows, cells = [], []
    for bug in dict.fromkeys(one.bug for one in every):
        ours = [one for one in every if one.bug == bug]
        rate = Rate(sum(one.after > 0 for one in ours), len(ours))
        first = Rate(sum(one.after == 1 for one in ours), len(ours))
        modes = Counter(mode for one in ours for mode in one.modes)
        rows.append(
            {"bug": bug, "failed": rate.to_dict(), "at_once": first.to_dict(), "modes": modes}
        )
        checks = sum(len(one.modes) for one in ours)
        cells.append([bug, str(rate), str(first), f"{checks:,}"])
    print(table(("gradient", "failed", "failed at the first check", "checks"), cells))
    return rows


def _first_source(runs: list[first_source.Run], iterations: int) -> Rows:
    steps = len(runs) * iterations
    rejected = sum(one.rejected for one in runs)
    print(
        f"\nThe first source system, checked at each of {steps:,} steps; its author's rule rejects "
        f"the right gradient {rejected:,} times\n"
    )
    names = dict.fromkeys(name for one in runs for name in one.outcomes)
    rows = [{"gradient": name, **first_source.total(runs, name)} for name in names]
    verdicts = ("pass", "inconclusive", "fail")
    cells = [
        [row["gradient"], *(f"{row.get(verdict, 0):,}" for verdict in verdicts)] for row in rows
    ]
    print(table(("gradient", *(verdict.upper() for verdict in verdicts)), cells))
    return [{"steps": steps, "rejected_by_rule": rejected}, *rows]


def refuse(found: dict[str, Rows], timed: bool) -> None:
    """Raise where something is not as it must be; `timed` says whether times count."""
    faults = [*_faults_of_verdicts(found)]
    for row in found["memory"]:
        if row["each"] > memory.A_RECORD:
            faults.append(f"a {row['mode']} check leaves {row['each']:.0f} bytes")
    more = found["overhead"][0]["ratio"]["median"] - 1
    if timed and more > MOST_OVERHEAD:
        faults.append(f"a budget of 1% took {more:.2%} of the training's time")
    if faults:
        raise FastcheckError("; ".join(faults) + ".")


def _faults_of_verdicts(found: dict[str, Rows]) -> Iterator[str]:
    for row in found["modes"]:
        if row["false_fails"]:
            yield f"{row['false_fails']} right gradients failed in mode {row['mode']}"
    for row in found["catches"]:
        failed, total = row["failed"]["count"], row["failed"]["total"]
        if row["bug"] == catches.RIGHT:
            if failed:
                yield f"{failed} of {total} trainings with right gradients failed"
        elif row["bug"] != UNSURE and failed < CAUGHT * total:
            yield f"{row['bug']} was caught in {failed} of {total} trainings"
    for row in found["first source"][1:]:
        if row["gradient"] == first_source.RIGHT:
            if row.get("fail"):
                yield f"{row['fail']} right gradients of the first source failed"
        elif row.get("pass"):
            yield f"{row['gradient']} passed {row['pass']} times in the first source"
