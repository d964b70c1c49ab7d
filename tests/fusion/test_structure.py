"""Parts of a difference: what is taken keeps its sign and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.hoisted import known

from .conftest import Tools

X = np.random.default_rng(15).normal(size=(21, 4))
W = np.random.default_rng(16).normal(size=(4, 3))

TAKEN: dict[str, Callable[[Any], Any]] = {
    "column": lambda z: z[:, 1],
    "last column": lambda z: z[..., -1],
    "columns": lambda z: z[:, 1:],
    "every other row": lambda z: z[::2],
    "row": lambda z: z[3],
    "element": lambda z: z[3, 2],
    "new axis": lambda z: z[:, None, 0],
    "reversed": lambda z: z[::-1, ::-1] * np.arange(3.0),
    "reordered": lambda z: z[:, [2, 0]] * np.arange(2.0),
    "repeated": lambda z: z[[0, 0, 5]],
    "picked": lambda z: z[np.arange(21), np.arange(21) % 3],
    "transposed": lambda z: z.T[1],
    "reshaped": lambda z: z.reshape(21, 1, 3)[:, 0, 1],
    "one column beside all": lambda z: z[:, 1:2] * np.arange(3.0) + z,
    "one picked column beside all": lambda z: z[:, [1]] * np.arange(3.0),
    "one row beside all": lambda z: z[-1:] * np.arange(21.0)[:, None],
    "flat": lambda z: z.reshape(-1) * np.arange(63.0),
    "cut in two": lambda z: z.reshape(3, 7, 3) * np.arange(7.0)[:, None],
    "cut and joined": lambda z: z.reshape(7, 9) * np.arange(9.0),
    "cut askew": lambda z: z.reshape(9, 7) * np.arange(7.0),
    "joined, transposed and cut": lambda z: z.T.reshape(-1).reshape(7, 9).T * np.arange(7.0),
    "a mask of data": lambda z: z[np.arange(63).reshape(21, 3) % 4 > 1] * np.arange(31.0),
    "a mask of rows": lambda z: z[np.arange(21) % 2 > 0] * np.arange(3.0),
    "a mask that moves": lambda z: np.tanh(z)[z > 0],
    "two index arrays": lambda z: z[[0, 1, 1], [1, 2, 2]],
    "index arrays that broadcast": lambda z: z[np.arange(5)[:, None], np.array([2, 0])] ** 2,
    "index arrays from the end": lambda z: z[np.array([-1, 3]), np.array([-2, -1])],
    "index arrays of two axes": lambda z: z[np.array([[0, 4], [4, 20]])] * np.arange(3.0),
    "an index array with a new axis": lambda z: z[[0, 1], None] * np.arange(3.0),
    "an index array beside a number": lambda z: z[[3, 5, 5], 1],
    "an index array behind a slice": lambda z: z[2:9:2, [1, 1, 0]],
    "index arrays apart": lambda z: z.reshape(7, 3, 3)[[0, 6], :, [1, 2]] * np.arange(3.0),
    "a diagonal": lambda z: np.diagonal(z[:3]),
    "part of what is computed": lambda z: np.tanh(z)[:, 1:] * np.exp(z)[:, :2],
    "places of what is computed": lambda z: np.tanh(z)[[4, 4, 0], [0, 1, 2]],
    "what is computed, reshaped": lambda z: np.tanh(z).reshape(7, 9)[:, ::2],
    "broadcast": lambda z: np.broadcast_to(z[:, :1], (21, 3)) * np.arange(3.0),
}


signs = pytest.mark.parametrize("sign", [1.0, -0.5], ids=["as it is", "scaled"])


def assert_like_replay(fused: Any, size: int) -> None:
    indices, steps = np.arange(size), np.full(size, 2.0**-31)
    ours = fused.differences("", indices, steps)
    other = fused.replay.differences("", indices, steps)
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9, atol=1e-12 * 2.0**-31)


@signs
@pytest.mark.parametrize("name", TAKEN)
def test_a_part_of_a_layer_that_is_all_moved(tools, name: str, sign: float) -> None:
    def loss(p: Any) -> Any:
        return np.sum(np.tanh(TAKEN[name](sign * ((X * p["w"]) @ W))))

    assert_like_replay(tools.fused_of(loss, {"w": np.array([0.3, -0.1, 0.2, 0.7])}, "w"), 4)


@signs
@pytest.mark.parametrize("name", TAKEN)
def test_a_part_of_a_layer_with_one_unit_moved(tools, name: str, sign: float) -> None:
    def loss(p: Any) -> Any:
        return np.sum(np.tanh(TAKEN[name](sign * (X @ p["W"]))))

    assert_like_replay(tools.fused_of(loss, {"W": W}, "W"), W.size)


@signs
def test_a_part_of_a_log_softmax(tools, sign: float) -> None:
    def loss(p: Any) -> Any:
        z = X @ W + p["b"]
        return np.sum(sign * (z - np.log(np.sum(np.exp(z), axis=1, keepdims=True)))[:, 1])

    assert_like_replay(tools.fused_of(loss, {"b": np.array([0.1, 0.2, -0.3])}, "b"), 3)


def test_an_empty_part_is_left_to_the_replay_or_right(tools) -> None:
    def loss(p: Any) -> Any:
        return np.sum(p["w"] ** 2) + np.sum(np.zeros((0, 4)) * p["w"])

    try:
        fused = tools.fused_of(loss, {"w": np.ones(4)}, "w")
    except NotFusable:
        return
    assert_like_replay(fused, 4)


# -- any shape -------------------------------------------------------------------------------------


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[int]]:
    """Draw factors, how they are grouped into axes before and after, and an order of the axes."""
    factors = draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4))
    size = int(np.prod(factors))

    def shape() -> list[int]:
        left, dims = size, []
        while left > 1 and len(dims) < 3:
            dims.append(draw(st.sampled_from([n for n in range(1, left + 1) if left % n == 0])))
            left //= dims[-1]
        return [*dims, left]

    before, after = shape(), shape()
    return before, after, draw(st.permutations(range(len(after)))), shape()


def weighed(z: Any) -> Any:
    return np.sum(np.tanh(z * np.cos(np.arange(float(z.size)).reshape(z.shape))))


@settings(max_examples=40, deadline=None)
@given(reshapes(), st.booleans())
def test_any_reshapes_of_any_shape(shapes: Any, computed: bool) -> None:
    before, middle, order, after = shapes

    def loss(p: Any) -> Any:
        z = p["w"] * 0.5
        z = np.tanh(z) if computed else z
        return weighed(z.reshape(middle).transpose(order).reshape(after))

    w = np.random.default_rng(0).normal(size=before)
    fused = Tools.fused_of(loss, {"w": w}, "w")
    assert_like_replay(fused, w.size)
    assert not fused.refused


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_index_arrays(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    spots = data.draw(st.sampled_from([(3,), (2, 2), (1,), (2, 1)]))
    index = []
    for n in shape:
        array = np.array(
            data.draw(st.lists(st.integers(-n, n - 1), min_size=4, max_size=4)), dtype=int
        )[: int(np.prod(spots))].reshape(spots)
        part = st.sampled_from([array, slice(None), slice(None, None, -1), n - 1, None])
        index.append(data.draw(part))
        if index[-1] is None:
            index.append(slice(None))
    W = np.random.default_rng(1).normal(size=(*shape, 2))

    def loss(p: Any) -> Any:
        z = np.tanh(np.dot(W, p["v"]) if data_of_all else p["w"])
        return weighed(z[tuple(index)])

    for data_of_all in (False, True):
        w, v = W[..., 0], W.reshape(-1, 2)[0]
        name = "v" if data_of_all else "w"
        fused = Tools.fused_of(loss, {name: v if data_of_all else w}, name)
        assert_like_replay(fused, 2 if data_of_all else w.size)
        assert not fused.refused


def test_a_wrong_place_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(p: Any) -> Any:
        return weighed(np.tanh(p["w"] * X)[np.arange(21) % 2 > 0])

    monkeypatch.setattr(
        "fastcheck.fusion.structure.known",
        lambda array, dims: known(np.roll(array, 1) if np.ndim(array) else array, dims),
    )
    with pytest.raises(AssertionError):
        assert_like_replay(Tools.fused_of(loss, {"w": np.ones(4)}, "w"), 4)
