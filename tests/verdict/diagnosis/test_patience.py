"""A diagnosis that would take long is cut short, and then says nothing for certain."""

from __future__ import annotations

import numpy as np
import pytest

import fastcheck
from fastcheck import outcome

X = np.random.default_rng(0).standard_normal((6, 3))
Y = np.random.default_rng(1).standard_normal((6, 2))
W = {"W1": np.random.default_rng(2).standard_normal((3, 4)), "W2": np.ones((4, 2))}


def loss(p):
    return 0.5 * np.sum((np.tanh(X @ p["W1"]) @ p["W2"] - Y) ** 2)


def wrong(mistake):
    H = np.tanh(X @ W["W1"])
    D = H @ W["W2"] - Y
    slope = 1.0 if mistake == "no derivative" else 1 - H**2
    grads = {"W1": X.T @ (D @ W["W2"].T * slope), "W2": H.T @ D}
    return {n: 2 * g for n, g in grads.items()} if mistake == "twice" else grads


@pytest.mark.parametrize("mistake", ["no derivative", "twice"])
def test_out_of_time(mistake, monkeypatch):
    full = fastcheck.check(loss, W, wrong(mistake)).diagnosis
    assert full is not None
    assert all(f.certainty == "exact" for f in full.findings)
    diagnose = fastcheck.verdict.diagnosis.diagnose
    monkeypatch.setattr(
        fastcheck.verdict.diagnosis, "diagnose", lambda evidence, _: diagnose(evidence, -1.0)
    )
    report = fastcheck.check(loss, W, wrong(mistake))
    assert report.failed
    assert report.diagnosis is not None
    assert not report.diagnosis.causes
    for finding in report.diagnosis.findings:
        assert finding.certainty in ("partly", "where")
        assert "Other mistakes may fit as well or better" in finding.explanation
    if mistake == "twice":  # which is known without a backward pass
        assert {f.cause for f in report.diagnosis.findings} == {f.cause for f in full.findings}


def test_there_is_time_enough_for_most(monkeypatch):
    given = []
    diagnose = fastcheck.verdict.diagnosis.diagnose

    def noted(evidence, seconds):
        given.append(seconds)
        return diagnose(evidence, seconds)

    monkeypatch.setattr(fastcheck.verdict.diagnosis, "diagnose", noted)
    assert fastcheck.check(loss, W, wrong("twice")).failed
    assert given[0] >= outcome._SECONDS_OF_A_DIAGNOSIS
