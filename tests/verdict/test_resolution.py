"""A pass says how small an error it would have seen: whatever is larger does not pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

import fastcheck
from fastcheck import Verdict
from fastcheck.verdict.tolerances import tolerance_for

DTYPES = (np.float64, np.float32)
BEYOND = (1.5, 10.0, 300.0)
"""Errors in units of the resolution. Jittered roundings are drawn anew in every check."""
EDGE = 1.01
"""A second look may find an error bar that is wider, by a small part of the tolerance."""


def softmax(margin, seed, dtype):
    """A softmax classifier that is certain of every sample by a margin, and its weights."""
    rng = np.random.default_rng(seed)
    X, W = (rng.standard_normal(shape).astype(dtype) for shape in ((3, 2), (2, 3)))
    scores = np.sort(X @ W, axis=1)
    W = (W * dtype(margin / np.min(scores[:, -1] - scores[:, -2]))).astype(dtype)
    Y = np.eye(3, dtype=dtype)[np.argmax(X @ W, axis=1)]

    def loss(W):
        S = X @ W
        S = S - S.max(axis=1, keepdims=True)
        return -np.sum(Y * (S - np.log(np.sum(np.exp(S), axis=1, keepdims=True)))) / len(X)

    return loss, W


def least_squares(residual, seed, dtype):
    """A regression with a residual of a given size, and its weights."""
    rng = np.random.default_rng(seed)
    X, w = rng.uniform(1, 2, (8, 4)).astype(dtype), rng.uniform(1, 2, 4).astype(dtype)
    y = (X.astype(float) @ w + residual * rng.standard_normal(8)).astype(dtype)
    return lambda w: 0.5 * np.sum((X @ w - y) ** 2), w


def saturated(bias, seed, dtype):
    """Sigmoid units that are all but saturated, and the weights in front of them."""
    rng = np.random.default_rng(seed)
    X, w = rng.standard_normal((6, 3)).astype(dtype), rng.standard_normal((3, 4)).astype(dtype)
    return lambda w: np.sum((1 / (1 + np.exp(-X @ w - bias)) - 0.5) ** 2), w


def passes(loss, params, **options):
    """Return the numerical gradient, and its resolution if it passes; else None."""
    right = fastcheck.numerical_gradient(loss, params, **options)
    report = fastcheck.check(loss, params, right, **options)
    assert report.verdict is not Verdict.FAIL, str(report)
    return right, report.tensors["params"].resolution if report.passed else None


def planted(loss, params, right, size, place, **options):
    """Return the report on a gradient with one wrong element, beyond what is tolerated anyway."""
    tolerance = tolerance_for([params.dtype])
    wrong = right.copy()
    # What is allowed grows with the larger of both derivatives.
    tolerated = tolerance.rtol * abs(wrong.flat[place]) + tolerance.gamma * np.max(np.abs(right))
    wrong.flat[place] += (size + EDGE * tolerated) / (1 - 2 * tolerance.rtol)
    return fastcheck.check(loss, params, wrong, **options)


def check_errors_above(loss, params, place, beyond, **options):
    right, resolution = passes(loss, params, **options)
    if resolution is None or not np.any(right):
        event("no pass")
        return
    size = beyond * resolution * np.linalg.norm(right)
    report = planted(loss, params, right, size, place % right.size, **options)
    if report.passed and options.get("engine") == "loop":
        # Its noise is found out anew; a pass that knows of more says so.
        resolution = report.tensors["params"].resolution
        assert 2 * resolution * np.linalg.norm(right) > size, f"{beyond} × {resolution}: {report}"
        return
    assert report.verdict is not Verdict.PASS, f"{beyond} × {resolution}: {report}"


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES),
    st.floats(0.5, 37.0),
    st.integers(0, 10**6),
    st.integers(0, 5),
    st.sampled_from(BEYOND),
    st.sampled_from(["replay", "auto", "loop"]),
)
def test_of_a_certain_softmax(dtype, margin, seed, place, beyond, engine):
    check_errors_above(*softmax(margin, seed, dtype), place, beyond, engine=engine)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES),
    st.floats(-14.0, 0.0),
    st.integers(0, 10**6),
    st.integers(0, 3),
    st.sampled_from(BEYOND),
    st.sampled_from(["replay", "auto", "loop"]),
)
def test_near_a_least_squares_solution(dtype, exponent, seed, place, beyond, engine):
    check_errors_above(*least_squares(10**exponent, seed, dtype), place, beyond, engine=engine)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES),
    st.floats(0.0, 30.0),
    st.integers(0, 10**6),
    st.integers(0, 11),
    st.sampled_from(BEYOND),
)
def test_of_saturated_units(dtype, bias, seed, place, beyond):
    check_errors_above(*saturated(bias, seed, dtype), place, beyond)


@pytest.mark.parametrize("margin", [9.0, 13.0, 20.0])
def test_the_rounding_that_would_be_excused_counts(margin):
    loss, W = softmax(margin, 0, np.float64)
    right, resolution = passes(loss, W)
    rounding = 2.0**-53 / np.linalg.norm(right)  # of p − y, where p is nearly 1
    assert resolution is not None
    assert 0.3 * rounding < resolution < 100 * rounding


def test_the_floor_counts_where_nothing_needs_it():
    # One unit in the loss far from saturation, all its terms far from cancelling.
    X = np.random.default_rng(0).standard_normal((6, 3))
    loss, w = lambda w: 1e6 + np.sum(np.tanh(X @ w)), np.array([0.1, 0.2, -0.3])
    right, resolution = passes(loss, w)
    floor = 256 * 2.0**-53 * 1e6 / 0.25
    assert resolution is not None
    assert floor / np.linalg.norm(right) < resolution < 1e-5
    for size, verdict in ((0.5 * floor, Verdict.PASS), (20 * floor, Verdict.FAIL)):
        report = planted(loss, w, right, size, 0)
        assert report.verdict is verdict, str(report)


def test_a_pass_of_what_is_rounding_could_not_have_seen_anything():
    # A bias ahead of a normalisation has derivative zero; both gradients are rounding.
    X = np.random.default_rng(0).standard_normal((16, 3))
    params = {"w": np.array([0.7, -0.4, 1.1]), "b": np.array([0.3])}

    def loss(p):
        z = X @ p["w"] + p["b"]
        z = (z - z.mean()) / np.sqrt(z.var() + 1e-5)
        return np.sum(np.tanh(z + 0.3) ** 2)

    right = fastcheck.numerical_gradient(loss, params)
    for b in (1.0, -1.0, 3.0):
        report = fastcheck.check(loss, params, {**right, "b": b * right["b"] + 1e-18})
        assert report.passed
        assert report.tensors["b"].resolution >= 1
        assert report.tensors["w"].resolution < 1e-8
