"""How far verdicts can be trusted: right and planted gradients along training trajectories.

Networks of twelve families are drawn at random and trained; at places on the way their gradients
are checked by one engine, right and with two bugs of `fastcheck.planted` each. A FAIL of a right
gradient is a false alarm and a PASS of a wrong one a missed bug, except where the bug is smaller
than the documented tolerance, or than the resolution that the report itself states. The rules of
courses and libraries judge the same gradients. Seeds are used nowhere else. Rates come with
Wilson's 95% intervals.

Beside that: the first source system through 250 iterations from ten starts, and what a verdict
costs beyond the bare 2N passes.

And the causes: every bug of the list is planted in twenty networks, untrained and trained, and its
cause must be named; so are mistakes that are on no list, of which no untrue cause may be asserted.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks import plots, results
from benchmarks.cases import Case
from benchmarks.machine import describe, environment
from benchmarks.options import positive
from benchmarks.tables import seconds, table
from benchmarks.trusted import cost, first_source
from benchmarks.trusted.counts import Rate, Tally, by_rule, grouped
from benchmarks.trusted.listed import Causes
from benchmarks.trusted.plot import rates
from benchmarks.trusted.spot import FIRST_SEED
from benchmarks.trusted.trial import Trial, trials
from benchmarks.workers import workers
from fastcheck.devices.cpu import usable_cores
from fastcheck.errors import FastcheckError
from fastcheck.report.progress import Progress

SUMMARY = "verdicts on right and planted gradients along training, beside the usual rules"
CHECKS, QUICK_CHECKS = 10_000, 120
STARTS, QUICK_STARTS = 10, 1
ITERATIONS, QUICK_ITERATIONS = 250, 50
NETWORKS, QUICK_NETWORKS = 20, 2
LEAST_NAMED = 0.99
"""The share of planted bugs whose cause must be named right."""
CASES = (Case(), Case((784, 512, 512, 10), batch=32))
BUDGET = 120.0
MOST_EXTRA = 0.15
"""What a verdict may take beyond the bare passes."""

T = TypeVar("T")
R = TypeVar("R")
Map = Callable[[Callable[[T], R], Iterable[T]], Iterable[R]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--checks", type=positive, metavar="N", help="right gradients to check at least"
    )
    parser.add_argument(
        "--processes", type=positive, metavar="P", default=usable_cores(), help="at a time"
    )
    parser.add_argument("--seed", type=int, default=0, help="shifts all seeds")
    parser.add_argument("--quick", action="store_true", help="120 checks, one start, 784-10-10")
    results.add_arguments(parser)


def run(arguments: Namespace) -> dict[str, Any]:
    """Check, print the tables, and return them as plain data.

    Raises
    ------
    FastcheckError
        After all is printed and saved: a right gradient failed, or a bug was missed.
    """
    results.prepare(arguments)
    machine = environment()
    print(describe(machine))
    quick = arguments.quick
    checks = arguments.checks or (QUICK_CHECKS if quick else CHECKS)
    starts, iterations = (QUICK_STARTS, QUICK_ITERATIONS) if quick else (STARTS, ITERATIONS)
    with workers(arguments.processes) as mapped:
        every = along_trajectories(checks, arguments.seed, mapped)
        causes = Causes.measure(QUICK_NETWORKS if quick else NETWORKS, arguments.seed, mapped)
        runs = list(mapped(partial(first_source.run, iterations=iterations), range(starts)))
    costs = [
        cost.measure(case, engine, 3 if quick else 7, BUDGET)
        for case in (CASES[:1] if quick else CASES)
        for engine in ("fused", "replay")
    ]
    found = {**report(every, runs, costs), **report_causes(causes)}
    if arguments.save:
        settings = {"checks": checks, "starts": starts, "iterations": iterations, "quick": quick}
        sections = [{"section": name, "rows": rows} for name, rows in found.items()]
        file = results.save("trust", machine, settings, sections, arguments.out)
        print(f"\n{file}", plot(machine, every, arguments.out), sep="\n")
    refuse_alarms(every, runs)
    refuse_causes(causes)
    return found


def along_trajectories(checks: int, seed: int, mapped: Any = map) -> list[Trial]:
    """Return the trials of as many trajectories as it takes to check so many right gradients."""
    every: list[Trial] = []
    right, at_once = 0, 16
    start = FIRST_SEED + seed
    with Progress(checks, "checking") as bar:
        while right < checks:
            for found in mapped(trials, range(start, start + at_once)):
                every.extend(found)
                done = min(sum(not one.bug for one in found), checks - right)
                right += done
                bar.advance(done)
                if right >= checks and mapped is map:
                    return every
            start += at_once
    return every


Rows = list[dict[str, Any]]


def report(
    every: list[Trial], runs: list[first_source.Run], costs: Sequence[cost.Cost | str]
) -> dict[str, Rows]:
    """Print all tables and return them."""
    return {
        "verdicts": _verdicts(every),
        "bugs": _bugs(every),
        "rules": _rules(every),
        "first source": _first_source(runs),
        "cost": _costs(costs),
        "alarms": _alarms(every),
        "causes named wrong": [{**vars(one)} for one in every if one.cause == "wrong"],
    }


def _verdicts(every: list[Trial]) -> Rows:
    groups = {
        "all": Tally.of(every),
        **grouped(every, lambda one: one.dtype),
        **grouped(every, lambda one: f"engine {one.engine}"),
        **grouped(every, lambda one: one.family),
    }
    columns = tuple(groups["all"].rates)
    print("\nfastcheck's verdicts: of so many, and the 95% interval of the rate\n")
    lines = [[name, *(str(t.rates[c]) for c in columns)] for name, t in groups.items()]
    print(table(("trials", *columns), lines))
    whole = groups["all"]
    print(
        f"\n{whole.right:,} right gradients and {whole.wrong:,} bugs; {whole.below:,} more bugs "
        "are within the tolerance, or passed and are within the resolution that the report states."
    )
    print(
        f"Causes of bugs that failed: {whole.named:,} named right, {whole.misnamed:,} wrong, "
        f"{whole.unnamed:,} not named. Checks that raised an error: {whole.errors:,}."
    )
    return [{"trials": name, **tally.to_dict()} for name, tally in groups.items()]


def _bugs(every: list[Trial]) -> Rows:
    groups = grouped([one for one in every if one.bug], lambda one: one.bug)
    headers = ("bug", "missed", "INCONCLUSIVE", "smaller than said", "cause right", "cause wrong")
    print("\nBy bug\n")
    lines = [
        [
            name,
            str(tally.rates["missed bug"]),
            f"{tally.wrong_open:,}",
            f"{tally.below:,}",
            f"{tally.named:,}",
            f"{tally.misnamed:,}",
        ]
        for name, tally in groups.items()
    ]
    print(table(headers, lines))
    return [{"bug": name, **tally.to_dict()} for name, tally in groups.items()]


def _rules(every: list[Trial]) -> Rows:
    rows = []
    for dtype in sorted({one.dtype for one in every}):
        shown = comparison([one for one in every if one.dtype == dtype])
        print(f"\nThe usual rules on the same gradients, {dtype} parameters\n")
        headers = ("rule", "right gradients rejected", "bugs accepted")
        print(table(headers, [[name, str(no), str(yes)] for name, (no, yes) in shown.items()]))
        rows += [
            {"dtype": dtype, "rule": name, "rejected": no.to_dict(), "accepted": yes.to_dict()}
            for name, (no, yes) in shown.items()
        ]
    return rows


def comparison(every: list[Trial]) -> dict[str, tuple[Rate, Rate]]:
    """Return the rates of right gradients rejected and of bugs accepted, fastcheck's first."""
    tally = Tally.of(every)
    own = (tally.rates["false FAIL"], tally.rates["missed bug"])
    return {"fastcheck": own, **by_rule(every)}


def _first_source(runs: list[first_source.Run]) -> Rows:
    iterations = sum(sum(one.outcomes["trace"].values()) for one in runs)
    print(f"\nThe first source system, {iterations:,} right gradients along its training\n")
    lines, rows = [], []
    for way in first_source.WAYS:
        passed = Rate(first_source.total(runs, way, "pass"), iterations)
        failed = Rate(first_source.total(runs, way, "fail"), iterations)
        lines.append([f"fastcheck, {way}", str(passed), str(failed)])
        rows.append({"way": way, "passed": passed.to_dict(), "failed": failed.to_dict()})
    accepted = Rate(first_source.accepted_by_rule(runs), iterations)
    rejected = Rate(iterations - accepted.count, iterations)
    print(
        table(
            ("way", "passed", "failed"), [*lines, ["author's rule", str(accepted), str(rejected)]]
        )
    )
    return [
        *rows,
        {"way": "author's rule", "passed": accepted.to_dict(), "failed": rejected.to_dict()},
    ]


def _costs(costs: Sequence[cost.Cost | str]) -> Rows:
    print(
        f"\nWhat a verdict costs beyond the bare 2N passes (at most {MOST_EXTRA:.0%} is the aim), "
        "and where a check's time goes\n"
    )
    measured = [one for one in costs if isinstance(one, cost.Cost)]
    headers = ("network", "engine", "bare", "check", "verdict's extra", "check's", *cost.PARTS)
    lines = [
        [
            one.case,
            one.engine,
            seconds(one.bare),
            seconds(one.whole),
            f"{one.verdict_share:+.0%}",
            f"{one.whole_share:+.0%}",
            *(seconds(one.parts[name]) for name in cost.PARTS),
        ]
        for one in measured
    ]
    print(table(headers, lines))
    skipped = [one for one in costs if isinstance(one, str)]
    print(*(f"not run: {one}" for one in skipped), sep="\n")
    return [one.to_dict() for one in measured] + [{"not_run": one} for one in skipped]


def _alarms(every: list[Trial]) -> Rows:
    """Print the trials that must not be, with what it takes to repeat them."""
    wrong = [one for one in every if one.alarming]
    for one in wrong[:20]:
        what = f"{one.bug}: {one.outcome}" if one.bug else "right, but FAIL"
        print(
            f"\n{what}; {one.family}, {one.dtype}, {one.engine}, seed {one.seed}, iteration "
            f"{one.iteration}: {one.reason}"
        )
    return [{**vars(one)} for one in wrong]


def report_causes(causes: Causes) -> dict[str, Rows]:
    """Print what diagnoses say, and return it."""
    return {"causes": _named(causes), "causes outside the list": _outside(causes)}


def _named(causes: Causes) -> Rows:
    groups = {"all": Tally.of(causes.failed), **grouped(causes.failed, lambda one: one.bug)}
    print("\nCauses of the bugs of the list that failed, in networks untrained and trained\n")
    rows = [
        {"bug": name, "failed": t.wrong, "right": t.named, "none": t.unnamed, "wrong": t.misnamed}
        for name, t in groups.items()
    ]
    print(table(tuple(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    print(f"\nnamed right: {causes.named}; wrong: {causes.misnamed}")
    return rows


def _outside(causes: Causes) -> Rows:
    names = dict.fromkeys(one.mistake for one in causes.strange)
    print("\nMistakes outside the list that failed: something said for certain, and untrue\n")
    rows: Rows = []
    for name in names:
        mine = [one for one in causes.strange if one.mistake == name]
        certain, untrue = sum(bool(one.said) for one in mine), sum(one.untrue for one in mine)
        rows.append({"mistake": name, "failed": len(mine), "certain": certain, "untrue": untrue})
    print(table(tuple(rows[0]), [[str(value) for value in row.values()] for row in rows]))
    print(f"\nuntrue: {causes.untrue}")
    for one in causes.strange:
        if one.untrue:
            print(f"{one.mistake}: {', '.join(one.said)}; seed {one.seed}, {one.iteration}")
    return rows


def plot(machine: dict[str, Any], every: list[Trial], folder: Path) -> Path:
    """Draw the rates of fastcheck and of the rules; return the file."""
    shown = comparison(every)
    panels = [
        ("right gradients rejected", [(name, no) for name, (no, _) in shown.items()]),
        ("bugs accepted", [(name, yes) for name, (_, yes) in shown.items()]),
    ]
    title = plots.heading("Right and wrong gradients along training", machine)
    return rates(folder / "trust.png", title, panels)


def refuse_alarms(every: list[Trial], runs: list[first_source.Run]) -> None:
    """Raise where a verdict was wrong: none may be."""
    tally = Tally.of(every)
    failed = tally.false_fail + sum(
        first_source.total(runs, way, "fail") for way in first_source.WAYS
    )
    if failed or tally.missed or tally.elsewhere or tally.errors:
        raise FastcheckError(
            f"{failed} right gradients failed, {tally.missed} bugs were missed, "
            f"{tally.elsewhere} failed a tensor that is right, and {tally.errors} checks could not "
            "be done."
        )


def refuse_causes(causes: Causes) -> None:
    """Raise where too few causes were named, or one was asserted that is not so."""
    named, misnamed, untrue = causes.named, causes.misnamed, causes.untrue
    if named.value < LEAST_NAMED or misnamed.count or untrue.count:
        raise FastcheckError(
            f"{named.count} of {named.total} causes were named right, where {LEAST_NAMED:.0%} must "
            f"be; {misnamed.count} were named wrong, and {untrue.count} mistakes outside the list "
            "were given a cause that they do not have."
        )
