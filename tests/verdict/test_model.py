"""The verdict on the whole model."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.report.data import Verdict
from fastcheck.verdict.judge import overall

PARAMS = {"a": np.ones(3), "b": np.ones(2)}
RIGHT = {"a": 2 * np.ones(3), "b": 2 * np.ones(2)}


def loss(p):
    return np.sum(p["a"] ** 2) + np.sum(p["b"] ** 2)


def test_all_right_passes(check):
    result = check(loss, PARAMS, RIGHT)
    assert result.verdict is Verdict.PASS
    assert result.reason == "The gradient is right in every tensor."


def test_one_wrong_tensor_fails_the_model_and_is_named(check):
    result = check(loss, PARAMS, {**RIGHT, "b": np.ones(2)})
    assert result.verdict is Verdict.FAIL
    assert result.reason == "The gradient is wrong in b."


def test_one_inconclusive_tensor_makes_the_model_inconclusive(check):
    params = {**PARAMS, "c": np.zeros(1)}
    result = check(
        lambda p: loss(p) + np.sum(np.maximum(p["c"], 0)), params, {**RIGHT, "c": np.array([0.3])}
    )
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "No error was found, but nothing certain can be said of c."


@pytest.mark.parametrize("factor", [0, 1])
def test_a_loss_that_reacts_to_nothing_is_inconclusive_with_the_likely_cause(check, factor):
    result = check(lambda p: 1.5, PARAMS, {k: factor * v for k, v in RIGHT.items()})
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == (
        "The loss does not react to any of the checked parameters: it returns the very same "
        "number for every perturbation. It probably computes from arrays of its own (such as "
        "`self.W1`) instead of its argument: store the given parameters first, then run the "
        "forward pass."
    )
    assert all(j.verdict is Verdict.INCONCLUSIVE for j in result.tensors.values())


def test_a_model_at_a_stationary_point_is_not_taken_for_one_that_does_not_react(check):
    zeros = {k: 0 * v for k, v in PARAMS.items()}
    assert check(loss, zeros, zeros).verdict is Verdict.PASS


def test_nothing_checked_at_all_is_inconclusive():
    assert overall([]) == (
        Verdict.INCONCLUSIVE,
        "Nothing was checked: `select` leaves no parameter.",
    )
