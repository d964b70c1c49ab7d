"""The parts of a diagnosis, one by one: factors, depths, the backward pass, moved elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree
from fastcheck.trace.backward import pull_back
from fastcheck.trace.graph import Graph
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace
from fastcheck.verdict.diagnosis.depths import depths_by_order, depths_in
from fastcheck.verdict.diagnosis.evidence import Evidence
from fastcheck.verdict.diagnosis.factors import Estimate, recognise
from fastcheck.verdict.diagnosis.families.layout import describe_order
from fastcheck.verdict.tolerances import tolerance_for

TOLERANCE = tolerance_for([np.float64])


def graph_of(loss: Any, params: Any) -> Graph:
    tree = ParamTree.from_user(params)
    return simplify(trace(loss, tree, LossFunction(loss, tree).count))


@pytest.mark.parametrize(
    ("value", "samples", "label"),
    [
        (2.0, None, "2"),
        (-0.5, None, "-1/2"),
        (1.0001, None, ""),
        (128.0, 128, "M"),
        (1 / 128, 128, "1/M"),
        (-2 / 128, 128, "-2/M"),
        (127 / 128, 128, "(M-1)/M"),
        (128.0, None, "N"),
        (1 / 60000, None, "1/N"),
        (128.0, 64, "2M"),
        (1e6 - 1, None, "N"),
        (2.5, None, ""),
        (math.pi, None, ""),
        (0.013, None, ""),
    ],
)
def test_a_factor_is_recognised(value: float, samples: int | None, label: str) -> None:
    found = recognise(Estimate(value, 1e-12 * abs(value)), Evidence((), samples), TOLERANCE)
    assert found.label == label
    assert found.value == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize(("value", "error"), [(128.4, 0.5), (1 / 1000.3, 1e-6), (5e5, 10.0)])
def test_a_factor_that_is_not_known_well_enough_counts_nothing(value: float, error: float) -> None:
    assert recognise(Estimate(value, error), Evidence(()), TOLERANCE).label == ""


def test_weights_and_bias_of_a_layer_have_one_depth_whatever_the_order() -> None:
    x = np.ones((5, 3))
    params = {"c": np.ones(2), "V": np.ones((4, 2)), "W": np.ones((3, 4)), "b": np.ones(4)}

    def loss(p: Any) -> Any:
        out = np.tanh(x @ p["W"] + p["b"]) @ p["V"] + p["c"]
        # A penalty is a shortcut to the loss that says nothing of layers.
        return np.mean(out**2) + 0.1 * np.sum(p["W"] ** 2)

    assert depths_in(graph_of(loss, params)) == {"V": 0, "c": 0, "W": 1, "b": 1}


def test_without_products_operations_are_counted() -> None:
    params = {"a": np.ones(3), "b": np.ones(3)}
    depths = depths_in(graph_of(lambda p: np.sum(np.exp(p["a"]) * p["b"]), params))
    assert depths["a"] > depths["b"]


def test_a_tensor_that_is_not_used_is_deepest() -> None:
    x = np.ones((2, 3))
    params = {"W": np.ones((3, 2)), "unused": np.ones(2), "V": np.ones((2, 2))}
    depths = depths_in(graph_of(lambda p: np.sum(x @ p["W"] @ p["V"]), params))
    assert depths == {"V": 0, "W": 1, "unused": 2}


def test_depths_by_order_keep_the_tensors_of_a_number_together() -> None:
    assert depths_by_order(["W1", "b1", "W2", "b2"]) == {"b2": 0, "W2": 0, "b1": 1, "W1": 1}
    assert depths_by_order(["layers[0].W", "layers[0].b", "layers[1].W"]) == {
        "layers[1].W": 0,
        "layers[0].b": 1,
        "layers[0].W": 1,
    }
    assert depths_by_order(["weights", "bias"]) == {"bias": 0, "weights": 1}


A = np.random.default_rng(0).uniform(0.5, 1.5, (4, 3))
B = np.random.default_rng(1).uniform(0.5, 1.5, (4, 3))
C = np.random.default_rng(2).uniform(0.5, 1.5, (3, 5))

LOSSES = {
    "arithmetic": lambda a, b: np.sum(a * b - a / b + (-a) ** 3 + 2 / b),
    "functions": lambda a, b: np.sum(np.exp(a) + np.log(b) * np.sqrt(a) + np.tanh(a * b)),
    "more": lambda a, b: np.sum(np.log1p(a) + np.expm1(b) + np.sin(a) * np.cos(b) + np.abs(a - b)),
    "kinks": lambda a, b: np.sum(np.maximum(a, b) + np.minimum(a, 1) + np.where(a > b, a, b * b)),
    "reductions": lambda a, b: np.mean(a, axis=0) @ np.max(b, axis=0) + np.sum(np.var(a, axis=1)),
    "logsumexp": lambda a, b: np.sum(np.log(np.sum(np.exp(a), axis=1))) + np.sum(b),
    "softmax": lambda a, b: (
        -np.sum(b * np.log(np.exp(a) / np.sum(np.exp(a), axis=1, keepdims=True)))
    ),
    "sigmoid": lambda a, b: np.sum(b / (1 + np.exp(-a)) + np.logaddexp(0, a)),
    "products": lambda a, b: np.sum((a @ C) ** 2) + np.trace(a.T @ b) + np.einsum("ij,kj->", a, b),
    "shapes": lambda a, b: np.sum(a.reshape(2, 6)[:, ::2] ** 2) + np.sum(b.T[1] * a[:, 0] ** 2),
    "joined": lambda a, b: np.sum(np.concatenate([a, b * a], axis=0)[2:6] ** 2),
    "broadcast": lambda a, b: np.sum((a[0] - b) ** 2 * a[:, :1]),
    "cumulative": lambda a, b: np.sum(np.cumsum(a, axis=0) ** 2 * b),
}


@pytest.mark.parametrize("name", LOSSES)
def test_the_backward_pass_through_a_trace_is_the_numerical_gradient(name: str) -> None:
    def loss(p: Any) -> Any:
        return LOSSES[name](p["a"], p["b"])

    params = {"a": A, "b": B}
    graph = graph_of(loss, params)
    assert graph.output is not None
    found = pull_back(graph.nodes, {graph.output: np.ones(graph.output.shape)})
    numeric = fastcheck.numerical_gradient(loss, params)
    for tensor, node in graph.parameters.items():
        np.testing.assert_allclose(found[node], numeric[tensor], rtol=1e-7, atol=1e-9)


def test_writes_into_arrays_are_gone_back_through() -> None:
    def loss(p: Any) -> Any:
        out = np.zeros((4, 3))
        out[1:] = p["a"][1:] * 2
        out[0] = p["a"][3] ** 2
        out[out < 1.5] = 0
        return np.sum(out * B)

    graph = graph_of(loss, {"a": A})
    assert graph.output is not None
    found = pull_back(graph.nodes, {graph.output: np.ones(())})[graph.parameters["a"]]
    np.testing.assert_allclose(found, fastcheck.numerical_gradient(loss, {"a": A})["a"], rtol=1e-7)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (np.roll(np.arange(7), 1), "moved on by 1"),
        (np.roll(np.arange(7), -2), "moved back by 2"),
        (np.array([0, 4, 2, 3, 1]), "1 and 4 are swapped"),
        (np.array([2, 0, 3, 1, 4]), "4 of 5 stand in other places"),
    ],
)
def test_moved_slices_are_described(order: Any, words: str) -> None:
    assert describe_order(order).startswith(words)
