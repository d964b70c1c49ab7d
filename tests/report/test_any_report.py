"""What holds for every report, however odd its content: drawn by Hypothesis."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcheck.report import Diagnosis, Finding, Report, TensorReport, Verdict, Worst
from fastcheck.report.layout import columns
from fastcheck.report.text import render

COUNTS = st.integers(0, 10**30) | st.integers(0, 1000)
FIGURES = st.floats() | st.sampled_from([0.0, 1e-300, 5e-324, 1.7e308, 1e-3])
INDICES = st.lists(st.integers(0, 10**6), max_size=8).map(tuple)
WORDS = st.text(max_size=30) | st.sampled_from(["W", "x" * 300, "重" * 90, "e\u0301" * 60])
NAMES = WORDS | st.from_regex(r"layers\[[0-9]{1,3}\]\.[a-z]{1,60}\.W", fullmatch=True)
SENTENCES = st.lists(WORDS, max_size=25).map(" ".join)
NOTES = st.lists(SENTENCES, max_size=3).map(tuple)
FINDINGS = st.builds(
    Finding,
    cause=WORDS,
    certainty=st.sampled_from(["exact", "partly", "where"]),
    tensors=st.lists(WORDS, max_size=3).map(tuple),
    evidence=SENTENCES,
    explanation=SENTENCES,
    alternatives=st.lists(WORDS, max_size=2).map(tuple),
)
DIAGNOSES = st.none() | st.builds(Diagnosis, st.lists(FINDINGS, max_size=3).map(tuple))
WORST = st.builds(Worst, INDICES, FIGURES, FIGURES, FIGURES)


def tensors(name: str) -> st.SearchStrategy[TensorReport]:
    return st.builds(
        TensorReport,
        name=st.just(name),
        shape=INDICES,
        dtype=st.sampled_from(["float16", "float32", "float64"]),
        verdict=st.sampled_from(Verdict),
        reason=SENTENCES,
        checked=COUNTS,
        size=COUNTS,
        relative_error=FIGURES,
        worst=st.none() | WORST,
        resolution=FIGURES,
        kinked=COUNTS,
        step=FIGURES,
        engine=st.sampled_from(["replay", "loop", "fused", "batched", "x" * 120]),
        engine_reason=SENTENCES,
        forward_passes=COUNTS,
        loss_calls=COUNTS,
        seconds=FIGURES,
        notes=NOTES,
    )


@st.composite
def reports(draw: st.DrawFn) -> Report:
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    return draw(
        st.builds(
            Report,
            verdict=st.sampled_from(Verdict),
            loss=FIGURES,
            tensors=st.fixed_dictionaries({name: tensors(name) for name in names}),
            method=st.sampled_from(["central", "forward"]) | WORDS,
            relative_error=FIGURES,
            seconds=FIGURES,
            loss_calls=COUNTS,
            notes=NOTES,
            fastcheck_version=WORDS,
            diagnosis=DIAGNOSES,
        )
    )


@settings(max_examples=100, deadline=None)
@given(reports(), st.sampled_from([80, 100]))
def test_no_line_is_wider_than_the_page(report, width):
    for line in render(report, width=width).split("\n"):
        assert columns(line) <= width


@settings(max_examples=40, deadline=None)
@given(reports())
def test_colour_adds_only_colour(report):
    coloured = render(report, colour=True)
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(report)


@settings(max_examples=40, deadline=None)
@given(reports())
def test_a_page_can_be_printed_anywhere(report):
    page = render(report)
    assert page == page.rstrip()
    assert all(line.isprintable() for line in page.split("\n"))


@settings(max_examples=100, deadline=None)
@given(reports())
def test_json_is_strict_and_round_trips(report):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    text = report.to_json()
    json.loads(text, parse_constant=refuse)
    # NaN differs from itself, so the written forms are compared.
    assert Report.from_json(text).to_json() == text
    assert repr(Report.from_json(text).tensors) == repr(report.tensors)


@pytest.mark.parametrize("verdict", Verdict)
def test_sixty_tensors_make_sixty_rows(report, tensor, verdict):
    page = render(report(*(tensor(f"W{i}", verdict=verdict) for i in range(60))))
    rows = [line for line in page.split("\n") if re.match(r"W\d+ +10×784 ", line)]
    assert len(rows) == 60
