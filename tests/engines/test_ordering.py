"""Elements that go the same way are in the same chunk, and the answer is in the order asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.ordering import in_order, slowest_first
from fastcheck.params import ParamTree
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(2)
X = RNG.standard_normal((40, 6))
PARAMS = {"W": RNG.standard_normal((6, 30)), "E": RNG.standard_normal((7, 6))}


def rows(p: Any) -> Any:
    return np.sum(np.tanh(X @ p["W"])) + np.sum(p["E"] ** 2)


def columns(p: Any) -> Any:
    return np.sum(np.tanh(p["W"].T @ X.T)) + np.sum(p["E"][[1, 2, 2]] ** 3)


def parts(p: Any) -> Any:
    q, k = np.tanh(X @ p["W"][:, :15]), X @ p["W"][:, 15:]
    return np.sum((q * k) ** 2) + np.sum(np.tanh(p["E"] @ X.T) ** 2)


@pytest.mark.parametrize(
    ("loss", "name", "axes"),
    [
        (rows, "W", (1, 0)),
        (columns, "W", (1, 0)),
        (parts, "W", (1, 0)),
        (parts, "E", (0, 1)),
        (columns, "E", (0, 1)),
        (rows, "E", (0, 1)),
    ],
)
def test_what_goes_on_varies_slowest(loss, name, axes) -> None:
    graph = trace(loss, ParamTree.from_user(PARAMS))
    assert slowest_first(slice_for(graph, name)) == axes


def test_sorting() -> None:
    indices = np.array([5, 0, 4, 3, 3])
    assert in_order(indices, (2, 3), (0, 1)) is None
    order = in_order(indices, (2, 3), (1, 0))
    assert order is not None
    assert indices[order].tolist() == [0, 3, 3, 4, 5]


@pytest.mark.parametrize("loss", [rows, columns, parts])
def test_small_chunks_give_the_same_derivatives(loss) -> None:
    wanted = fastcheck.numerical_gradient(loss, PARAMS, engine="loop")
    found = fastcheck.numerical_gradient(loss, PARAMS, engine="replay", memory="300kB")
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, atol=1e-8)
