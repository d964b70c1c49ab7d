"""Backward passes through long loops are quick, remember nothing wrong, and can be given up."""

from __future__ import annotations

from time import thread_time

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.trace.backward import pull_back
from fastcheck.trace.backward_rules import at_corners
from fastcheck.trace.patience import OutOfTimeError, at_most, is_lost
from fastcheck.trace.tracer import trace

W = np.array([0.7, 0.4, 1.3])


def loop(w):
    x, total = np.array([1.0, 0.5]), 0.0
    for _ in range(20):
        f = np.array([w[0] * x[0] - w[1] * x[0] * x[1], np.maximum(w[2] * x[1], 0.0)])
        x = x + 0.01 * f
        total = total + np.concatenate([x, w[1:].reshape(2, 1)[0]]).sum() ** 2
    return total


def gradient(graph, **options):
    found = pull_back(graph.nodes, {graph.output: np.ones(())}, **options)
    return found[graph.parameters["params"]]


def test_small_operations_are_remembered_rightly():
    graph = trace(loop, ParamTree.from_user(W))
    right = fastcheck.numerical_gradient(loop, W, engine="loop")
    for _ in range(2):
        np.testing.assert_allclose(gradient(graph), right, rtol=1e-7)
        towards = gradient(graph, towards=frozenset(["params"]))
        np.testing.assert_allclose(towards, right, rtol=1e-7)
    assert graph.parameters["params"] not in pull_back(
        graph.nodes, {graph.output: np.ones(())}, towards=frozenset()
    )


def test_slopes_at_corners_are_not_remembered():
    graph = trace(lambda w: np.maximum(w, 0.0)[0] * 3.0, ParamTree.from_user(np.zeros(1)))
    for share in (0.5, 0.0, 1.0, 0.5):
        with at_corners(share):
            assert gradient(graph)[0] == 3 * share


def test_a_pass_is_given_up_when_time_is_over():
    graph = trace(loop, ParamTree.from_user(W))
    with at_most(60.0) as patience:
        gradient(graph)
        assert not patience.lost
        assert not is_lost()
    with at_most(0.001) as patience:
        until = thread_time() + 0.002
        while thread_time() < until:
            pass
        with pytest.raises(OutOfTimeError):
            gradient(graph)
        assert patience.lost
        assert is_lost()
    assert not is_lost()
    gradient(graph)
