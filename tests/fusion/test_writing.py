"""Arrays written in place and joined: a difference is found where it was put."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.fusion.dims import NotFusable

RNG = np.random.default_rng(18)
X, W = RNG.normal(size=(9, 4)), RNG.normal(size=(4, 3))
ORDER = np.arange(1.0, 5.0)


def writing(index: Any, *shape: int) -> Callable[[Any], Any]:
    """Return a function that writes an array into another one, in which something is already."""

    def write(z: Any) -> Any:
        out = np.zeros(shape)
        out[index] = z
        return out

    return write


def overwritten(z: Any) -> Any:
    out = z * 1.0
    out[:, 0] = 0.5
    out[2] = 0.0
    return out


def cleared(z: Any) -> Any:
    out = z * 1.0
    out[out < 0] = 0
    return out


def partly_replaced(z: Any) -> Any:
    out = z * 1.0
    out[:, 1:2] = 0.1 * z.sum(axis=1, keepdims=True)
    return out


JOINED: dict[str, Callable[[Any], Any]] = {
    "all of it": writing(slice(None), 9, 3),
    "some rows": writing(slice(1, 10), 12, 3),
    "every other row": writing(slice(0, 18, 2), 18, 3),
    "rows from the end": writing(slice(None, None, -1), 9, 3),
    "columns": writing((slice(None), slice(1, 4)), 9, 5),
    "columns from the end": writing((slice(None), slice(None, None, -1)), 9, 3),
    "one layer": writing(1, 2, 9, 3),
    "last layer": writing(-1, 2, 9, 3),
    "all layers": writing(slice(None), 2, 9, 3),
    "after an ellipsis": writing((..., 0), 9, 3, 2),
    "ones beside": lambda z: np.hstack([z, np.ones((9, 1))]),
    "ones before": lambda z: np.concatenate([np.ones((9, 2)), z], axis=1),
    "below": lambda z: np.vstack([np.ones((2, 3)), z]),
    "beside itself": lambda z: np.concatenate([z, 2 * z], axis=-1),
    "stacked": lambda z: np.stack([z, z**2]),
    "overwritten": overwritten,
    "cleared by a mask": cleared,
    "partly replaced": partly_replaced,
}


def assert_like_replay(fused: Any, size: int) -> None:
    indices, steps = np.arange(size), np.full(size, 2.0**-31)
    ours = fused.differences("", indices, steps)
    other = fused.replay.differences("", indices, steps)
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9, atol=1e-12 * 2.0**-31)
    np.testing.assert_allclose(ours.minus, other.minus, rtol=1e-9, atol=1e-12 * 2.0**-31)


def weighed(z: Any) -> Any:
    """Return a loss to which every element of an array counts differently."""
    return np.sum(np.tanh(z * np.cos(np.arange(float(z.size)).reshape(z.shape))))


@pytest.mark.parametrize("name", JOINED)
def test_a_layer_with_one_unit_moved(tools, name: str) -> None:
    fused = tools.fused_of(lambda p: weighed(JOINED[name](X @ p["W"])), {"W": W}, "W")
    assert_like_replay(fused, W.size)


@pytest.mark.parametrize("name", JOINED)
def test_a_layer_that_is_all_moved(tools, name: str) -> None:
    def loss(p: Any) -> Any:
        return weighed(JOINED[name]((X * p["w"]) @ W))

    assert_like_replay(tools.fused_of(loss, {"w": 0.1 * ORDER}, "w"), 4)


@pytest.mark.parametrize("name", JOINED)
def test_a_layer_that_the_kernel_computes(tools, name: str) -> None:
    def loss(p: Any) -> Any:
        return weighed(JOINED[name](np.tanh((X * p["w"]) @ W)))

    assert_like_replay(tools.fused_of(loss, {"w": 0.1 * ORDER}, "w"), 4)


def test_a_weight_beside_its_bias(tools) -> None:
    def loss(p: Any) -> Any:
        return weighed(np.hstack([X, np.ones((9, 1))]) @ np.vstack([p["W"], p["b"]]))

    params = {"W": W, "b": RNG.normal(size=3)}
    for name in params:
        assert_like_replay(tools.fused_of(loss, params, name), params[name].size)


def scattered(index: Any, *shape: int) -> Callable[[Any], Any]:
    """Return a function that writes what fits the index into an array with something in it."""

    def write(z: Any) -> Any:
        out = 0.1 * np.sum(z) * np.ones(shape)
        wanted = np.empty(shape)[index].shape
        out[index] = z.reshape(-1)[: int(np.prod(wanted))].reshape(wanted)
        return out

    return write


SCATTERED: dict[str, Callable[[Any], Any]] = {
    "rows in another order": writing([8, 7, 6, 5, 4, 3, 2, 1, 0], 9, 3),
    "the last of equals counts": writing([0, 1, 2, 2, 2, 5, 6, 7, 0], 9, 3),
    "a mask of rows": writing(np.arange(12) % 4 > 0, 12, 3),
    "a mask of places": scattered(np.arange(27).reshape(9, 3) % 3 > 0, 9, 3),
    "two index arrays": scattered(([0, 3, 3], [2, 1, 0]), 9, 3),
    "index arrays that broadcast": scattered((np.arange(9)[:, None], np.array([2, 0])), 9, 4),
    "index arrays apart": scattered(([0, 1], slice(None), [1, 1]), 2, 4, 3),
    "one row for all": lambda z: writing([1, 4], 6, 3)(np.sum(z, axis=0)),
}


@pytest.mark.parametrize("name", SCATTERED)
def test_values_at_any_places(tools, name: str) -> None:
    place = SCATTERED[name]
    losses: list[Callable[[Any], Any]] = [
        lambda p: weighed(place(X @ p["W"])),
        lambda p: weighed(place(np.tanh(X @ p["W"]))),
        lambda p: weighed(place(np.tanh(np.tanh(X @ p["W"]) @ (W.T @ W)))),
    ]
    for loss in losses:
        assert_like_replay(tools.fused_of(loss, {"W": W}, "W"), W.size)


def test_a_part_of_a_large_array_is_left_to_the_replay(tools) -> None:
    def loss(p: Any) -> Any:
        return np.sum(np.concatenate([p["w"] * np.arange(3000.0), np.ones(10)]) ** 2)

    with pytest.raises(NotFusable, match=r"^a part of a large array is written$"):
        tools.fused_of(loss, {"w": np.ones(3000)}, "w")
