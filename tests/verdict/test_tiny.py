"""Deviations that are real but tiny: what is said of them, and the tolerance that accepts them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastcheck
from fastcheck import Verdict

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 8))
W = RNG.standard_normal((8, 4))
ONE_HOT = np.eye(4)[RNG.integers(0, 4, 20)]


def softmax(W):
    powers = np.exp(X @ W - (X @ W).max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


RIGHT = {"W": X.T @ (softmax(W) - ONE_HOT) / 20}


def cross_entropy(epsilon):
    return lambda p: -np.sum(ONE_HOT * np.log(softmax(p["W"]) + epsilon)) / 20


def test_an_epsilon_that_the_backward_pass_leaves_out_is_said_to_look_like_this():
    traced = cross_entropy(1e-9)
    # Without a trace nobody knows that this is what it is.
    report = fastcheck.check(lambda p: float(str(traced(p))), {"W": W}, RIGHT)
    reason = report.tensors["W"].reason
    assert report.verdict is Verdict.FAIL
    assert reason.endswith(
        f"The difference is tiny, {report.tensors['W'].relative_error:.1e} of the tensor: a small "
        "constant (ε) inside a logarithm, square root or division of the forward pass that the "
        "backward pass leaves out looks like this. `tolerance=1e-06` accepts it."
    )


@pytest.mark.parametrize("epsilon", [1e-11, 1e-9, 1e-8])
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_the_tolerance_that_is_named_accepts_it(epsilon, engine):
    report = fastcheck.check(cross_entropy(epsilon), {"W": W}, RIGHT, engine=engine)
    named = re.search(r"`tolerance=(.*)`", report.tensors["W"].reason)
    if report.verdict is Verdict.FAIL:
        again = fastcheck.check(
            cross_entropy(epsilon), {"W": W}, RIGHT, engine=engine, tolerance=float(named[1])
        )
        assert again.passed


def test_nothing_of_the_kind_is_said_of_a_plain_error():
    report = fastcheck.check(cross_entropy(0.0), {"W": W}, {"W": 1.01 * RIGHT["W"]})
    assert report.verdict is Verdict.FAIL
    assert "tiny" not in report.tensors["W"].reason


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_tolerance_accepts_relative_errors_below_it_also_in_tiny_elements(engine):
    gradient = 2 * np.array([1e-9, 1.0, -2.0, 3.0])
    off = gradient + np.array([2e-7, 0.0, 0.0, 0.0])
    error = np.linalg.norm(off - gradient) / (2 * np.linalg.norm(gradient))
    assert error < 3.6e-8
    params = {"w": gradient / 2}

    def check(**options):
        return fastcheck.check(
            lambda p: np.sum(p["w"] ** 2), params, {"w": off}, engine=engine, **options
        )

    assert check(tolerance=1e-4).passed
    assert check().verdict is Verdict.FAIL


@pytest.mark.parametrize("size", [1e-100, 1e-140, 1e-200, 1e-290, 1e-304])
def test_parameters_that_are_tiny_themselves_take_steps_that_are_tinier(size):
    def loss(p):
        return np.sum(np.tanh(X @ (p["W"] / size) + p["b"]))

    params = {"W": size * W, "b": np.linspace(-1.0, 1.0, 4)}
    slopes = 1 - np.tanh(X @ (params["W"] / size) + params["b"]) ** 2
    right = {"W": X.T @ slopes / size, "b": slopes.sum(0)}
    assert fastcheck.check(loss, params, right).passed
    wrong = {**right, "W": 1.001 * right["W"]}
    assert fastcheck.check(loss, params, wrong).failed == ("W",)
