"""The benchmark of the monitor: its parts, and a reduced run in which nothing may be wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# At the end: an installed fastcheck comes before the one in this folder.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks import monitor
from benchmarks.__main__ import main
from benchmarks.monitored import catches, first_source, memory, overhead
from fastcheck.errors import FastcheckError
from fastcheck.monitor import budget as budgets


def test_a_training_with_a_budget_is_timed_beside_one_alone():
    found = overhead.measure(iterations=40, repeats=2, every=10)
    assert [one.name for one in found.timings] == [
        overhead.ALONE,
        overhead.AGAIN,
        overhead.BUDGETED,
    ]
    assert found.noise.low <= found.noise.median <= found.noise.high
    assert found.whole.low <= found.whole.median <= found.whole.high
    modes = found.modes()
    assert [row["mode"] for row in modes] == list(overhead.MODES)
    assert all(0 < row["low"] <= row["median"] <= row["high"] for row in modes)
    assert {len(records) for records in found.by_mode.values()} == {2 * 4}


def test_bugs_are_caught_and_right_gradients_are_not():
    right, wrong = catches.caught(3, (catches.RIGHT, "1% in b2"))
    assert (right.after, len(right.modes)) == (0, catches.CHECKS)
    assert wrong.after == 1
    assert right.modes == ("directions",) * catches.CHECKS


def test_every_bug_of_the_catches_changes_the_gradient():
    place = next(catches._places(0))
    for name, plant in catches.WRONG.items():
        wrong = plant(place)
        assert any((wrong[n] != place.grads[n]).any() for n in wrong), name


def test_the_real_clock_is_back_afterwards():
    real = budgets.perf_counter
    with catches._on(catches.Clock()):
        assert budgets.perf_counter is not real
    assert budgets.perf_counter is real


def test_the_first_source_is_checked_with_every_bug_that_applies():
    found = first_source.run(0, iterations=3)
    assert found.outcomes.pop(first_source.RIGHT) == {"pass": 3}
    assert len(found.outcomes) >= 8
    assert all(set(counts) == {"fail"} for counts in found.outcomes.values())
    assert found.outcomes["stale"] == {"fail": 2}  # there is none at the first step


def test_what_checks_leave_in_memory_is_counted():
    found = memory.measure("directions", checks=20)
    assert found["grown"] > 0
    assert found["each"] == found["grown"] / 20


RATE = {"count": 100, "total": 100}
GOOD = {
    "modes": [{"mode": "full", "false_fails": 0}],
    "memory": [{"mode": "full", "each": 500.0}],
    "overhead": [{"ratio": {"median": 1.01}}],
    "catches": [
        {"bug": catches.RIGHT, "failed": {"count": 0, "total": 100}},
        {"bug": "sign", "failed": {"count": 99, "total": 100}},
        {"bug": monitor.UNSURE, "failed": {"count": 90, "total": 100}},
    ],
    "first source": [{}, {"gradient": "right", "pass": 9}, {"gradient": "sign", "fail": 9}],
}


def test_a_good_run_is_not_refused():
    monitor.refuse(GOOD, timed=True)


@pytest.mark.parametrize(
    ("section", "rows", "message"),
    [
        ("modes", [{"mode": "full", "false_fails": 1}], "right gradients failed in mode full"),
        ("memory", [{"mode": "full", "each": 1e5}], "leaves 100000 bytes"),
        ("overhead", [{"ratio": {"median": 1.03}}], r"took 3\.00%"),
        ("catches", [{"bug": catches.RIGHT, "failed": RATE}], "with right gradients failed"),
        ("catches", [{"bug": "sign", "failed": {"count": 98, "total": 100}}], "sign was caught"),
        ("first source", [{}, {"gradient": "right", "fail": 1}], "of the first source failed"),
        ("first source", [{}, {"gradient": "sign", "pass": 2}], "sign passed 2 times"),
    ],
)
def test_what_must_not_be_is_refused(section, rows, message):
    with pytest.raises(FastcheckError, match=message):
        monitor.refuse({**GOOD, section: rows}, timed=True)


def test_times_of_a_quick_run_refuse_nothing():
    monitor.refuse({**GOOD, "overhead": [{"ratio": {"median": 1.5}}]}, timed=False)


def test_a_quick_run_prints_every_table(capsys):
    assert main(["monitor", "--quick", "--seeds", "1", "--processes", "1"]) == 0
    out = capsys.readouterr().out
    for title in (
        "every=100",
        "A check of each mode",
        "A full check of 784-10-10",
        "Memory that checks leave",
        "Bugs caught within 5 checks",
        "The first source system, checked at each of 10 steps",
    ):
        assert title in out
