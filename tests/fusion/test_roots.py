"""Where a tensor's elements enter the loss: whole, or cut into pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.fused import FusedEngine
from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.roots import groups_of
from fastcheck.params import ParamTree
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tracer import trace

X = np.random.default_rng(2).normal(size=(21, 4))
THETA = np.random.default_rng(3).normal(size=17)


def pieces(theta: Any) -> tuple[Any, Any]:
    """Two layers of a flat vector; its last two elements are in neither."""
    return theta[:12].reshape(3, 4), theta[12:15]


def cut(p: dict[str, Any]) -> Any:
    W, w = pieces(p["theta"])
    return np.mean((np.tanh(X @ W.T) @ w) ** 2)


def cut_and_whole(p: dict[str, Any]) -> Any:
    return cut(p) + 0.05 * np.sum(p["theta"] ** 2)


def transposed(p: dict[str, Any]) -> Any:
    return np.mean(np.tanh(p["W"].T @ X.T) ** 2)


def transposed_and_not(p: dict[str, Any]) -> Any:
    return np.sum(np.tanh(X @ p["W"])) + np.sum((p["W"].T * np.arange(4.0)) ** 2)


def diagonal_of_a_product(p: dict[str, Any]) -> Any:
    return np.sum(np.diagonal(np.tanh(X[:4] @ p["W"])))


def diagonal_too(p: dict[str, Any]) -> Any:
    return np.sum(np.tanh(X @ p["W"])) + np.sum(np.diagonal(p["W"]) ** 3)


def overlapping(p: dict[str, Any]) -> Any:
    return np.sum(p["theta"][:10] ** 2) + np.sum(p["theta"][5:] ** 3)


def reversed_too(p: dict[str, Any]) -> Any:
    return np.sum(p["theta"] * p["theta"][::-1])


def twice(p: dict[str, Any]) -> Any:
    return np.sum((p["theta"][:4] * X) ** 2) + np.mean(np.tanh(X @ p["theta"][:4]))


def assert_like_replay(fused: FusedEngine, size: int, step: float = 2.0**-31) -> np.ndarray:
    indices, steps = np.arange(size), np.full(size, step)
    ours = fused.differences("", indices, steps)
    other = fused.replay.differences("", indices, steps)
    np.testing.assert_allclose(ours.plus, other.plus, rtol=1e-9, atol=1e-14 * step)
    np.testing.assert_allclose(ours.minus, other.minus, rtol=1e-9, atol=1e-14 * step)
    return ours.plus


def test_a_tensor_used_whole_is_one_group(tools) -> None:
    (group,) = groups_of(tools.slice_of(diagonal_of_a_product, {"W": np.ones((4, 4))}, "W"))
    assert group.elements is None
    assert len(group.positions) == 2


def test_a_matrix_and_its_transpose_share_their_pins(tools) -> None:
    (group,) = groups_of(tools.slice_of(transposed_and_not, {"W": np.ones((4, 4))}, "W"))
    first, second = group.roots.values()
    assert first == second[::-1]
    assert len(group.positions) == 2


def test_each_piece_of_a_flat_vector_is_a_group(tools) -> None:
    groups = groups_of(tools.slice_of(cut, {"theta": THETA}, "theta"))
    elements = sorted(group.elements.tolist() for group in groups)
    assert elements == [[*range(12)], [*range(12, 15)]]


def test_positions_are_those_in_the_piece(tools) -> None:
    groups = groups_of(tools.slice_of(cut, {"theta": THETA}, "theta"))
    groups.sort(key=lambda group: group.elements[0])
    for group, shape in zip(groups, [(3, 4), (3,)], strict=True):
        ((root, pins),) = group.roots.items()
        places = [group.positions[pin][group.elements] for pin in pins]
        order = [*range(len(shape))] if root.shape == shape else [*range(len(shape))][::-1]
        wanted = np.indices(shape).reshape(len(shape), -1)[order]
        np.testing.assert_array_equal(places, wanted)


def test_a_vector_used_whole_and_in_pieces_has_a_group_for_the_rest(tools) -> None:
    groups = groups_of(tools.slice_of(cut_and_whole, {"theta": THETA}, "theta"))
    assert sorted(len(group.elements) for group in groups) == [2, 3, 12]
    assert sorted(len(group.roots) for group in groups) == [1, 2, 2]


def test_overlapping_pieces_make_a_group_of_what_they_share(tools) -> None:
    groups = groups_of(tools.slice_of(overlapping, {"theta": THETA}, "theta"))
    found = {len(group.roots): group.elements.tolist() for group in groups}
    assert found[2] == [*range(5, 10)]


def test_too_many_kinds_of_pieces_are_refused() -> None:
    def loss(p: dict[str, Any]) -> Any:
        return sum(np.sum(p["theta"][k] ** 2) for k in range(40))

    part = slice_for(trace(loss, ParamTree.from_user({"theta": np.ones(40)})), "theta")
    with pytest.raises(NotFusable, match=r"^the tensor is taken apart into 40 kinds of pieces$"):
        groups_of(part)


def test_too_many_pieces_are_refused() -> None:
    def loss(p: dict[str, Any]) -> Any:
        return sum(np.sum(p["theta"][k] ** 2) for k in range(70))

    part = slice_for(trace(loss, ParamTree.from_user({"theta": np.ones(70)})), "theta")
    with pytest.raises(NotFusable, match=r"^the tensor is taken apart into 70 pieces$"):
        groups_of(part)


@pytest.mark.parametrize("loss", [cut, cut_and_whole, overlapping, twice])
def test_pieces_of_a_flat_vector(tools, loss: Callable[..., Any]) -> None:
    assert_like_replay(tools.fused_of(loss, {"theta": THETA}, "theta"), 17)


@pytest.mark.parametrize("loss", [transposed, transposed_and_not, diagonal_too])
def test_views_of_a_matrix(tools, loss: Callable[..., Any]) -> None:
    W = np.random.default_rng(4).normal(size=(4, 4))
    assert_like_replay(tools.fused_of(loss, {"W": W}, "W"), 16)


def test_a_vector_and_its_reverse(tools) -> None:
    assert_like_replay(tools.fused_of(reversed_too, {"theta": THETA}, "theta"), 17)


def test_elements_that_are_used_nowhere_change_nothing(tools) -> None:
    changes = assert_like_replay(tools.fused_of(cut, {"theta": THETA}, "theta"), 17)
    assert not changes[15:].any()
    assert changes[:15].all()


def test_one_row_in_fortran_order(tools) -> None:
    def loss(p: dict[str, Any]) -> Any:
        return np.sum(np.tanh(X @ p["theta"][:12].reshape((4, 3), order="F")))

    assert_like_replay(tools.fused_of(loss, {"theta": THETA}, "theta"), 17)
