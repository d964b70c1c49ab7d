"""`numerical_gradient`: the same tree as the parameters, in float64."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import numpy as np
import pytest

import fastcheck

Layer = namedtuple("Layer", "W b")
rng = np.random.default_rng(0)
X = rng.normal(size=(12, 4))
W, B = rng.normal(size=(4, 3)), rng.normal(size=3)
DW = X.T @ (1 - np.tanh(X @ W + B) ** 2)
DB = np.sum(1 - np.tanh(X @ W + B) ** 2, axis=0)


def forward(weights: Any, biases: Any) -> Any:
    return np.sum(np.tanh(X @ weights + biases))


TREES = {
    "dict": ({"W": W, "b": B}, lambda p: forward(p["W"], p["b"])),
    "ordered dict": (OrderedDict(W=W, b=B), lambda p: forward(p["W"], p["b"])),
    "list": ([W, B], lambda p: forward(*p)),
    "tuple": ((W, B), lambda p: forward(p[0], p[1])),
    "namedtuple": (Layer(W, B), lambda p: forward(p.W, p.b)),
    "nested": ([{"layer": (W, [B])}], lambda p: forward(p[0]["layer"][0], p[0]["layer"][1][0])),
}


def same_kind(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return type(a) is type(b) and all(same_kind(a[key], b[key]) for key in b)
    if isinstance(b, list | tuple):
        return type(a) is type(b) and all(map(same_kind, a, b))
    return type(a) is np.ndarray and a.dtype == np.float64 and a.shape == b.shape


def leaves(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        return [leaf for entry in tree for leaf in leaves(entry)]
    return [tree]


@pytest.mark.parametrize("kind", TREES)
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_it_has_the_containers_of_the_parameters(kind: str, engine: str) -> None:
    params, loss = TREES[kind]
    numeric = fastcheck.numerical_gradient(loss, params, engine=engine)
    assert same_kind(numeric, params)
    tolerance = 1e-12 if engine == "auto" else 1e-6
    for found, right in zip(leaves(numeric), (DW, DB), strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=tolerance)


def test_an_array_gives_an_array() -> None:
    numeric = fastcheck.numerical_gradient(lambda x: np.sum(x**2), np.array([3.0, -1.0]))
    np.testing.assert_array_equal(numeric, [6.0, -2.0])


def test_a_0d_array_gives_a_0d_array() -> None:
    numeric = fastcheck.numerical_gradient(lambda x: x**2, np.array(2.0))
    assert type(numeric) is np.ndarray
    assert numeric.shape == ()
    assert numeric == 4.0


@pytest.mark.parametrize("theta", [2.0, np.float32(2.0)])
def test_a_float_gives_a_float(theta: Any) -> None:
    numeric = fastcheck.numerical_gradient(lambda x: 3.0 * x**2, theta)
    assert type(numeric) is np.float64
    assert numeric == pytest.approx(12.0)


def test_floats_in_containers_give_floats() -> None:
    numeric = fastcheck.numerical_gradient(
        lambda p: p["a"] * p["b"][0] ** 2, {"a": 2.0, "b": [3.0]}
    )
    assert numeric == {"a": pytest.approx(9.0), "b": [pytest.approx(12.0)]}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_coarser_parameters_give_a_float64_gradient(dtype: Any) -> None:
    theta = np.array([1.5, 0.25], dtype=dtype)
    numeric = fastcheck.numerical_gradient(lambda x: np.sum(x**3), theta)
    assert numeric.dtype == np.float64
    np.testing.assert_allclose(numeric, 3 * theta.astype(float) ** 2, rtol=1e-13)


def test_fortran_order_changes_no_index() -> None:
    coefficients = np.arange(12.0).reshape(3, 4)
    theta = np.asfortranarray(np.ones((3, 4)))
    for engine in ("replay", "loop"):
        numeric = fastcheck.numerical_gradient(
            lambda x: np.sum(coefficients * x), theta, engine=engine
        )
        np.testing.assert_allclose(numeric, coefficients, atol=1e-7)


def test_empty_tensors_stay_empty() -> None:
    numeric = fastcheck.numerical_gradient(
        lambda p: np.sum(p["a"] ** 2) + np.sum(p["e"]), {"a": np.ones(2), "e": np.ones((0, 3))}
    )
    assert numeric["e"].shape == (0, 3)
    np.testing.assert_allclose(numeric["a"], 2.0)


def test_nan_stands_where_the_loss_is_not_finite_beside_the_parameter() -> None:
    def loss(x: Any) -> Any:
        return np.sum(np.where(x >= 0, x, np.nan))

    np.testing.assert_array_equal(
        fastcheck.numerical_gradient(loss, np.array([0.0, 1.0])), [np.nan, 1.0]
    )


def test_a_given_step_is_the_step() -> None:
    # (sin(x + h) − sin(x − h)) / 2h = cos(x)·sin(h)/h
    numeric = fastcheck.numerical_gradient(np.sin, np.array(0.5), step=0.1)
    assert numeric == pytest.approx(np.cos(0.5) * np.sin(0.1) / 0.1, rel=1e-13)


def test_forward_differences_at_a_given_step() -> None:
    numeric = fastcheck.numerical_gradient(np.sin, np.array(0.5), step=0.1, method="forward")
    assert numeric == pytest.approx((np.sin(0.6) - np.sin(0.5)) / 0.1, rel=1e-13)


def test_the_loop_and_replay_agree_to_the_rounding_of_the_loop() -> None:
    params, loss = TREES["dict"]
    fast = fastcheck.numerical_gradient(loss, params, engine="replay")
    plain = fastcheck.numerical_gradient(loss, params, engine="loop")
    np.testing.assert_allclose(fast["W"], plain["W"], rtol=0, atol=1e-8)


def test_a_ufunc_is_a_loss() -> None:
    numeric = fastcheck.numerical_gradient(np.linalg.norm, np.array([3.0, 4.0]))
    np.testing.assert_allclose(numeric, [0.6, 0.8])


def test_the_parameters_stay_as_they_were() -> None:
    params, loss = TREES["dict"]
    before = params["W"].tobytes()
    fastcheck.numerical_gradient(loss, params, engine="loop")
    assert params["W"] is W
    assert W.tobytes() == before


def test_the_result_is_new_memory() -> None:
    theta = np.ones(3)
    assert not np.shares_memory(fastcheck.numerical_gradient(np.sum, theta), theta)


def test_unusable_arguments_are_refused_as_in_check() -> None:
    with pytest.raises(fastcheck.InputError, match="`step` must be positive and finite"):
        fastcheck.numerical_gradient(np.sum, np.ones(3), step=0)
    with pytest.raises(fastcheck.InputTypeError, match="`params` is a callable"):
        fastcheck.numerical_gradient(np.ones(3), np.sum)  # type: ignore[arg-type]
