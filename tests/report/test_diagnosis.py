"""Diagnoses in reports: kept in JSON, absent from older ones, and shown after the failures."""

from __future__ import annotations

import pytest

from fastcheck.errors import InputError, InputTypeError
from fastcheck.report import Diagnosis, Finding, Report, Verdict

SIGN = Finding(
    cause="sign",
    certainty="exact",
    tensors=("W2",),
    evidence="The gradient of W2 is −1 × the numerical one.",
    explanation="A minus sign is missing.",
    alternatives=("scale",),
)
UNKNOWN = Finding(
    cause="unknown", certainty="where", tensors=("W1", "b1"), evidence="Seen.", explanation="Look."
)


@pytest.fixture
def failed(report, tensor):
    found = Diagnosis((SIGN, UNKNOWN))
    assert list(found) == [SIGN, UNKNOWN]
    return report(tensor("W2", verdict=Verdict.FAIL, reason="Wrong."), diagnosis=found)


def test_a_diagnosis_comes_back_from_json(failed):
    assert Report.from_json(failed.to_json()) == failed


def test_a_report_without_a_diagnosis_comes_back_without(report, tensor):
    passed = report(tensor())
    assert passed.to_dict()["diagnosis"] is None
    assert Report.from_dict(passed.to_dict()) == passed


def test_json_of_versions_that_made_none_still_reads(failed):
    older = failed.to_dict()
    del older["diagnosis"]
    assert Report.from_dict(older).diagnosis is None


def test_a_field_that_is_missing_is_named(failed):
    data = failed.to_dict()
    del data["diagnosis"]["findings"][1]["evidence"]
    with pytest.raises(InputError, match=r"lacks diagnosis\.findings\[1\]\.evidence"):
        Report.from_dict(data)


def test_a_diagnosis_that_is_no_dict_is_refused(failed):
    data = failed.to_dict()
    data["diagnosis"] = "scale"
    with pytest.raises(InputTypeError, match="diagnosis"):
        Report.from_dict(data)


def test_only_what_is_exact_counts_as_a_cause(failed):
    assert failed.diagnosis.causes == ("sign",)


def test_the_page_says_why_after_where_and_before_the_notes(failed, report):
    page = str(failed)
    assert page.index("Wrong.") < page.index("Diagnosis\n") < page.index(SIGN.explanation)
    assert page.index(SIGN.evidence) < page.index("Seen. Look.")


def test_a_page_without_a_diagnosis_has_no_such_heading(report, tensor):
    assert "Diagnosis" not in str(report(tensor()))
