"""Factors that are the same along the axes of a sum of products are taken after it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.primitives import CONTRACT, elementwise
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(5)
X = RNG.standard_normal((6, 5))
Z = RNG.standard_normal((6, 5))
PARAMS = {"W": RNG.standard_normal((5, 8)), "V": RNG.standard_normal((8, 3))}
G = RNG.standard_normal(8)


def length(x: Any) -> Any:
    return np.sqrt(np.sum(x * x, axis=1, keepdims=True))


def cosines(p: Any) -> Any:
    a, b = X @ p["W"], Z @ p["W"]
    return np.sum(((a / length(a)) @ (b / length(b)).T) ** 2)


def scaled_and_gained(p: Any) -> Any:
    a = X @ p["W"]
    return np.sum(((a / length(a) * G) @ p["V"]) ** 3)


def gated(p: Any) -> Any:
    a = X @ p["W"]
    return np.sum(np.tanh((length(a) * a / 100) @ p["V"]))


def by_einsum(p: Any) -> Any:
    a = (X @ p["W"]).reshape(6, 2, 4)
    a = a / np.sqrt(np.einsum("nhd,nhd->nh", a, a))[:, :, None]
    return np.sum(np.einsum("nhd,nkd->hnk", a, a[:, :, ::-1]) ** 2)


def plain_vectors(p: Any) -> Any:
    a = X[0] @ p["W"]
    return np.tanh((a / np.sqrt(a @ a)) @ p["V"]).sum()


LOSSES = [cosines, scaled_and_gained, gated, by_einsum, plain_vectors]


def graph_of(loss: Any) -> Graph:
    return trace(loss, ParamTree.from_user(PARAMS))


def scaled_before(graph: Graph) -> int:
    """Count products whose operand has just been divided by something that moves."""
    return sum(
        operand.primitive is elementwise(np.divide) and not operand.operands[1].constant
        for node in graph
        if node.primitive is CONTRACT
        for operand in node.operands
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_the_same_at_other_parameters(loss) -> None:
    graph = simplify(graph_of(loss))
    for _ in range(5):
        other = {name: RNG.standard_normal(value.shape) for name, value in PARAMS.items()}
        np.testing.assert_allclose(graph.evaluate(other), float(loss(other)), rtol=1e-12)


@pytest.mark.parametrize("loss", [cosines, plain_vectors])
def test_norms_are_divided_by_afterwards(loss) -> None:
    assert scaled_before(graph_of(loss))
    assert not scaled_before(simplify(graph_of(loss)))


def test_what_differs_along_the_sum_stays() -> None:
    def loss(p: Any) -> Any:
        a = np.exp(X @ p["W"])
        return np.sum((a / np.sum(a, axis=0)) @ p["V"])

    def outer(p: Any) -> Any:  # the result is larger than what is divided
        a = np.sum(p["W"], axis=0)[:, None]
        return np.sum(((a / np.sum(a)) @ a.T) ** 2)

    for one in (loss, outer):
        assert scaled_before(simplify(graph_of(one))) == scaled_before(graph_of(one)) == 1


@pytest.mark.parametrize("loss", LOSSES)
def test_right_passes_and_wrong_fails(loss) -> None:
    right = fastcheck.numerical_gradient(loss, PARAMS, engine="loop")
    assert fastcheck.check(loss, PARAMS, right, engine="replay")
    wrong = {name: value.copy() for name, value in right.items()}
    wrong["W"][2, 3] *= 1.001
    assert not fastcheck.check(loss, PARAMS, wrong, engine="replay").passed
