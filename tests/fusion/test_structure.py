"""Parts of a difference: what is taken keeps its sign and size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.fusion.dims import NotFusable

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


NO_KERNEL: list[tuple[str, Callable[[Any], Any], str]] = [
    ("w", lambda z: z[[0, 1], None], "an index array with a new axis"),
    ("w", lambda z: z[z > 0], "a mask picks elements"),
    ("w", lambda z: z[[0, 1], [1, 2]], "indexing with several arrays"),
    ("w", lambda z: np.tanh(z)[:, 1:], "a part of an axis that the kernel computes is taken"),
    ("w", lambda z: z.reshape(-1), "a reshape from (21, 3) to (63,)"),
]


@pytest.mark.parametrize(("name", "take", "why"), NO_KERNEL)
def test_a_part_that_no_kernel_takes(
    tools, name: str, take: Callable[[Any], Any], why: str
) -> None:
    def loss(p: Any) -> Any:
        return np.sum(take((X * p["w"]) @ p["W"]) ** 3)

    with pytest.raises(NotFusable) as refusal:
        tools.fused_of(loss, {"w": np.ones(4), "W": W}, name)
    assert str(refusal.value) == why


def test_an_empty_part_is_left_to_the_replay_or_right(tools) -> None:
    def loss(p: Any) -> Any:
        return np.sum(p["w"] ** 2) + np.sum(np.zeros((0, 4)) * p["w"])

    try:
        fused = tools.fused_of(loss, {"w": np.ones(4)}, "w")
    except NotFusable:
        return
    assert_like_replay(fused, 4)
