"""What a Report answers about itself."""

from __future__ import annotations

import dataclasses

import pytest

from fastcheck.report import Verdict


@pytest.mark.parametrize(
    ("verdict", "passed"),
    [(Verdict.PASS, True), (Verdict.FAIL, False), (Verdict.INCONCLUSIVE, False)],
)
def test_only_a_pass_is_true(report, tensor, verdict, passed):
    found = report(tensor(verdict=verdict))
    assert found.passed is passed
    assert bool(found) is passed


def test_a_verdict_compares_with_its_word():
    assert Verdict.INCONCLUSIVE == "inconclusive"
    assert f"{Verdict.FAIL}" == "fail"


def test_failed_names_failing_tensors_in_order(report, tensor):
    found = report(
        tensor("c", verdict=Verdict.FAIL),
        tensor("b", verdict=Verdict.INCONCLUSIVE),
        tensor("a", verdict=Verdict.FAIL),
    )
    assert found.failed == ("c", "a")


def test_totals_are_sums_over_tensors(report, tensor):
    found = report(tensor("W", (10, 10), checked=7), tensor("b", (3,)))
    assert (found.checked, found.size, found.forward_passes) == (10, 103, 20)


def test_repr_is_one_short_line(report, tensor):
    assert repr(report(tensor())) == (
        "<Report pass: 1 tensor, 7,840 of 7,840 parameters, relative error 4.0e-11>"
    )


def test_a_report_cannot_be_changed(report, tensor):
    with pytest.raises(dataclasses.FrozenInstanceError):
        report(tensor()).verdict = Verdict.PASS
