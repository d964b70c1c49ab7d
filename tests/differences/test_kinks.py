"""Kinks are marked exactly where a comparison comes out differently, exact ties included."""

from typing import Any

import numpy as np
import pytest

from fastcheck.differences import Delta, Pin
from fastcheck.trace.primitives import (
    CAST,
    MAX,
    MIN,
    WHERE,
    discrete_function,
    elementwise,
)

from .conftest import COPIES

MOVES = np.array([-2.0, -0.5, 0.0, 0.5, 2.0])


def moves(values: Any = MOVES) -> Delta:
    """One number moved by a different amount in every copy."""
    return Delta(np.asarray(values, dtype=float), {})


def kinked_copies(lab: Any, node: Any, *deltas: Any) -> list[bool]:
    lab.propagate(node, *deltas)
    return lab.kinked


@pytest.mark.parametrize("base", [-0.5, 0.0, 0.5, 2.0])
def test_relu_kinks_where_its_sign_changes(lab, base) -> None:
    node = lab.node(elementwise(np.maximum), lab.parameter(base), 0.0)
    moved = base + MOVES
    # At a tie the second operand, the constant, counts as the winner.
    wanted = np.where(base > 0, moved < 0, moved > 0)
    assert kinked_copies(lab, node, moves(), None) == wanted.tolist()


def test_relu_at_zero_kinks_on_one_side_whichever_operand_comes_first(lab) -> None:
    x = lab.parameter(0.0)
    first = kinked_copies(lab, lab.node(elementwise(np.maximum), x, 0.0), moves(), None)
    second = kinked_copies(lab, lab.node(elementwise(np.maximum), 0.0, x), None, moves())
    assert first == [False, False, False, True, True]
    assert second == [True, True, False, False, False]


@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum])
def test_two_that_move_alike_never_kink(lab, ufunc) -> None:
    x = lab.parameter(1.0)
    node = lab.node(elementwise(ufunc), x, x)
    out = lab.propagate(node, moves(), moves())
    np.testing.assert_array_equal(lab.stack(out, node), MOVES)
    assert not any(lab.kinked)


@pytest.mark.parametrize("ufunc", [np.maximum, np.minimum])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_the_larger_of_two_random_arrays(lab, rng, ufunc, scale) -> None:
    x, y = (lab.parameter(rng.normal(size=(3, 4))) for _ in range(2))
    node = lab.node(elementwise(ufunc), x, y)
    dx, dy = lab.delta(rng, x, scale), lab.delta(rng, y, scale)
    lab.propagate(node, dx, dy)
    changed = (x.value + lab.stack(dx, x) > y.value + lab.stack(dy, y)) != (x.value > y.value)
    assert lab.kinked == changed.any(axis=(1, 2)).tolist()


@pytest.mark.parametrize("base", [-0.5, 0.0, 2.0])
def test_abs_kinks_where_the_sign_changes(lab, base) -> None:
    node = lab.node(elementwise(np.absolute), lab.parameter(base))
    out = lab.propagate(node, moves())
    np.testing.assert_array_equal(lab.stack(out, node), abs(base + MOVES) - abs(base))
    moved = np.where(MOVES == 0, False, (base + MOVES) * base <= 0)
    assert lab.kinked == moved.tolist()


COMPARISONS = ["less", "less_equal", "greater", "greater_equal", "equal", "not_equal"]


@pytest.mark.parametrize("name", COMPARISONS)
@pytest.mark.parametrize("base", [-0.5, 0.0, 0.5, np.inf, -np.inf])
@pytest.mark.parametrize("other", [0.0, 0.5, -0.5, np.inf, -np.inf])
def test_a_comparison_flips_exactly_where_it_does(lab, name, base, other) -> None:
    compare = getattr(np, name)
    node = lab.node(elementwise(compare), lab.parameter(base), other)
    out = lab.propagate(node, moves(), None)
    wanted = compare(base + MOVES, other).astype(int) - int(compare(base, other))
    np.testing.assert_array_equal(lab.stack(out, node), wanted)
    assert lab.kinked == (wanted != 0).tolist()


@pytest.mark.parametrize("name", COMPARISONS)
def test_masks_can_be_compared(lab, name) -> None:
    mask = lab.node(elementwise(np.greater), lab.parameter([1.0, -1.0]), 0.0)
    node = lab.node(elementwise(getattr(np, name)), mask, np.array([True, True]))
    flips = Delta(np.array([[-1.0, 0.0], [0.0, 1.0], [-1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]), {})
    out = lab.propagate(node, flips, None)
    wanted, _ = lab.plain(node, flips, None)
    np.testing.assert_array_equal(lab.stack(out, node), wanted)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor", "bitwise_and"])
def test_logic_of_masks(lab, name) -> None:
    x = lab.parameter(np.array([1.0, -1.0, 0.5]))
    masks = [lab.node(elementwise(np.greater), x, limit) for limit in (0.0, 0.7)]
    node = lab.node(elementwise(getattr(np, name)), *masks)
    delta = Delta(np.array([[d, -d, d] for d in MOVES]), {})
    flips = [lab.propagate(mask, delta, None) for mask in masks]
    out = lab.stack(lab.propagate(node, *flips), node)
    moved = [x.value + delta.values > limit for limit in (0.0, 0.7)]
    wanted = getattr(np, name)(*moved).astype(int) - node.value.astype(int)
    np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("name", ["sign", "floor", "ceil", "rint", "trunc", "signbit"])
@pytest.mark.parametrize("base", [-0.7, 0.0, 0.3, 1.0])
def test_functions_that_move_in_jumps(lab, name, base) -> None:
    function = getattr(np, name)
    node = lab.node(elementwise(function), lab.parameter(base))
    out = lab.propagate(node, moves())
    wanted = function(base + MOVES).astype(float) - float(function(base))
    np.testing.assert_array_equal(lab.stack(out, node), wanted)
    assert lab.kinked == (wanted != 0).tolist()


def test_nothing_is_passed_on_where_nothing_flips(lab) -> None:
    node = lab.node(elementwise(np.greater), lab.parameter(1.0), 0.0)
    assert lab.propagate(node, moves(MOVES / 8), None) is None


def test_rounding_to_decimals_keeps_its_fractions(lab) -> None:
    rounding = discrete_function("round", lambda x, decimals: np.round(x, decimals))
    node = lab.node(rounding, lab.parameter(0.11), decimals=1)
    out = lab.propagate(node, moves())
    np.testing.assert_allclose(lab.stack(out, node), np.round(0.11 + MOVES, 1) - 0.1)


@pytest.mark.parametrize("primitive", [MAX, MIN])
def test_an_extreme_kinks_where_another_element_takes_over(lab, rng, primitive) -> None:
    x = lab.parameter(rng.normal(size=(3, 4)))
    node = lab.node(primitive, x, axes=(1,), keepdims=False)
    find = np.argmax if primitive is MAX else np.argmin
    for scale in (1.0, 1e-3):
        delta = lab.delta(rng, x, scale)
        lab.propagate(node, delta)
        moved = x.value + lab.stack(delta, x)
        changed = find(moved, axis=2) != find(x.value, axis=1)
        assert lab.kinked == changed.any(axis=1).tolist()


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_moving_one_of_two_tied_winners_is_a_kink_on_one_side(lab, pinned, place) -> None:
    x = lab.parameter([1.0, 1.0, 0.0])
    node = lab.node(MAX, x, axes=(0,), keepdims=False)
    tiny = MOVES / 100
    if pinned:
        delta = Delta(tiny[:, None], {0: Pin.of(np.full(COPIES, place))})
    else:
        values = np.zeros((COPIES, 3))
        values[:, place] = tiny
        delta = Delta(values, {})
    out = lab.propagate(node, delta)
    wanted = np.maximum(tiny, 0) if place < 2 else np.zeros(COPIES)
    found = lab.stack(out, node)
    np.testing.assert_array_equal(found, wanted)
    one_sided = [kinked for kinked, move in zip(lab.kinked, tiny, strict=True) if move]
    assert any(one_sided) == (place < 2)


def test_where_takes_the_other_branch_where_its_mask_flips(lab) -> None:
    x = lab.parameter(0.3)
    mask = lab.node(elementwise(np.greater), x, 0.0)
    node = lab.node(WHERE, mask, x, lab.node(elementwise(np.negative), x))
    flips = lab.propagate(mask, moves(), None)
    out = lab.propagate(node, flips, moves(), moves(-MOVES))
    np.testing.assert_allclose(lab.stack(out, node), abs(0.3 + MOVES) - 0.3)


def test_casting_to_integers_moves_in_jumps(lab) -> None:
    node = lab.node(CAST, lab.parameter(0.7), dtype=np.dtype(int))
    out = lab.propagate(node, moves())
    wanted = (0.7 + MOVES).astype(int)
    np.testing.assert_array_equal(lab.stack(out, node), wanted)
    assert lab.kinked == (wanted != 0).tolist()


@pytest.mark.parametrize("ufunc", [np.fmax, np.fmin])
def test_fmax_leaves_nan_aside(lab, ufunc) -> None:
    x = lab.parameter(1.0)
    out = lab.propagate(lab.node(elementwise(ufunc), x, np.nan), moves(), None)
    np.testing.assert_array_equal(out.values, MOVES)


def test_remainder_is_smooth_between_its_jumps(lab) -> None:
    node = lab.node(elementwise(np.remainder), lab.parameter(1.2), 1.0)
    out = lab.propagate(node, moves([-0.1, 0.1, 0.5, 0.9, -0.3]), None)
    np.testing.assert_allclose(lab.stack(out, node), [-0.1, 0.1, 0.5, -0.1, 0.7], atol=1e-15)
    assert lab.kinked == [False, False, False, True, True]
