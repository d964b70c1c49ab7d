"""Rules that move, choose, sum and multiply elements: unstack(rule(stack)) is f(b + d) − f(b)."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nst

from fastcheck.differences import Delta
from fastcheck.differences.index_form import normal_form
from fastcheck.trace.primitives import (
    ACCUMULATE_AT,
    BROADCAST,
    CAST,
    CONCATENATE,
    CONTRACT,
    CUMPROD,
    CUMSUM,
    INDEX,
    MAX,
    MIN,
    PROD,
    RESHAPE,
    SUM,
    TRANSPOSE,
    WHERE,
    WRITE,
)

from .conftest import COPIES, Lab


def check(lab: Any, seed: int, node: Any, *moving: bool, scale: float = 0.3) -> None:
    """Move the operands that `moving` names, at a large step and at a tiny one.

    At 1e-7 the plain difference in double precision is good to 1e-9 only, in extended to 1e-12.
    """
    if not node.value.size:
        assert not node.operands  # nothing moves it: it is recorded as a constant
        return
    rng = np.random.default_rng(seed)
    for size in (scale, 1e-7):
        deltas: list[Delta | None] = [
            lab.delta(rng, operand, size) if moves else None
            for operand, moves in zip(node.operands, moving, strict=True)
        ]
        found = lab.stack(lab.propagate(node, *deltas), node)
        wanted, _ = lab.plain(node, *deltas, dtype=np.longdouble)
        largest = float(np.max(abs(wanted), initial=0.0))
        np.testing.assert_allclose(
            found, wanted.astype(float), rtol=1e-11, atol=1e-11 * largest + 2e-18
        )


def values(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(seed + 1000).uniform(-1, 1, shape)


SEEDS = st.integers(0, 10**6)
SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)
quick = settings(max_examples=120, deadline=None)


@quick
@given(SEEDS, SHAPES, st.randoms(use_true_random=False))
def test_reshape(seed: int, shape: tuple[int, ...], random: Any) -> None:
    lab = Lab()
    factors = [f for n in shape for f in ({4: [2, 2]}.get(n, [n]))]
    random.shuffle(factors)
    cut = random.randint(0, len(factors))
    new = (*factors[:cut], int(np.prod(factors[cut:], dtype=int)))
    check(lab, seed, lab.node(RESHAPE, lab.parameter(values(seed, shape)), shape=new), True)


@quick
@given(SEEDS, SHAPES, st.randoms(use_true_random=False))
def test_transpose(seed: int, shape: tuple[int, ...], random: Any) -> None:
    lab = Lab()
    axes = list(range(len(shape)))
    random.shuffle(axes)
    x = lab.parameter(values(seed, shape))
    check(lab, seed, lab.node(TRANSPOSE, x, axes=tuple(axes)), True)


@quick
@given(SEEDS, SHAPES, st.lists(st.integers(0, 3), max_size=2).map(tuple))
def test_broadcast(seed: int, shape: tuple[int, ...], lead: tuple[int, ...]) -> None:
    lab = Lab()
    wide = lead + tuple(3 if size == 1 else size for size in shape)
    check(lab, seed, lab.node(BROADCAST, lab.parameter(values(seed, shape)), shape=wide), True)


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("moving", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("axis", [0, 1])
def test_concatenate(lab, seed, moving, axis) -> None:
    shapes = [(2, 3), (4, 3)] if axis == 0 else [(3, 2), (3, 1)]
    parts = [lab.parameter(values(seed + k, shape)) for k, shape in enumerate(shapes)]
    check(lab, seed, lab.node(CONCATENATE, *parts, axis=axis), *moving)


def axes_of(shape: tuple[int, ...]) -> Any:
    return st.sets(st.integers(0, len(shape) - 1), min_size=1).map(sorted).map(tuple)


@quick
@given(SEEDS, st.data(), st.booleans())
def test_sum_and_product(seed: int, data: Any, keepdims: bool) -> None:
    shape = data.draw(SHAPES.filter(len))
    axes = data.draw(axes_of(shape))
    for primitive in (SUM, PROD):
        lab = Lab()
        x = lab.parameter(values(seed, shape))
        check(lab, seed, lab.node(primitive, x, axes=axes, keepdims=keepdims), True)


@settings(max_examples=400, deadline=None)
@given(SEEDS, st.data(), st.booleans(), st.sampled_from([MAX, MIN]), st.booleans())
def test_extremes(seed: int, data: Any, keepdims: bool, primitive: Any, ties: bool) -> None:
    lab = Lab()
    shape = data.draw(SHAPES.filter(len))
    base = values(seed, shape)
    x = lab.parameter(np.round(base) if ties else base)
    axes = data.draw(axes_of(shape))
    check(lab, seed, lab.node(primitive, x, axes=axes, keepdims=keepdims), True, scale=1.0)


@quick
@given(SEEDS, st.data())
def test_cumulative_sum_and_product(seed: int, data: Any) -> None:
    shape = data.draw(SHAPES.filter(len))
    axis = data.draw(st.integers(0, len(shape) - 1))
    for primitive in (CUMSUM, CUMPROD):
        lab = Lab()
        x = lab.parameter(values(seed, shape))
        check(lab, seed, lab.node(primitive, x, axis=axis), True)


@settings(max_examples=400, deadline=None)
@given(SEEDS, st.data())
def test_index(seed: int, data: Any) -> None:
    lab = Lab()
    shape = data.draw(SHAPES.filter(len))
    index = data.draw(indices(shape))
    check(lab, seed, lab.node(INDEX, lab.parameter(values(seed, shape)), index=index), True)


def indices(shape: tuple[int, ...]) -> Any:
    """Basic indices, integer arrays alone and among slices, and masks."""
    basic = nst.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True)
    arrays = nst.integer_array_indices(shape, result_shape=nst.array_shapes(max_dims=2, max_side=3))
    mask = nst.arrays(bool, shape)
    return st.one_of(basic, arrays, mask, mixed_indices(shape))


@st.composite
def mixed_indices(draw: Any, shape: tuple[int, ...]) -> Any:
    spots = draw(st.sampled_from([(), (2,), (3,), (2, 1)]))
    parts: list[Any] = []
    for size in shape[: draw(st.integers(1, len(shape)))]:
        array = nst.arrays(np.int64, spots, elements=st.integers(-size, size - 1))
        part = draw(st.one_of(array, array, st.slices(size), st.integers(-size, size - 1)))
        parts += [part, None] if draw(st.integers(0, 5)) == 0 else [part]
    return tuple(parts)


@settings(max_examples=400, deadline=None)
@given(SEEDS, st.data(), st.sampled_from([(True, True), (True, False), (False, True)]))
def test_write_and_accumulate(seed: int, data: Any, moving: tuple[bool, bool]) -> None:
    shape = data.draw(SHAPES.filter(len))
    index = data.draw(indices(shape))
    target = np.empty(shape)[index].shape
    shapes = [target, target[1:], (), tuple(1 for _ in target)]
    if target and not isinstance(index, np.ndarray):
        shapes.append((1, *target))  # NumPy drops axes of size 1 in front
    given_shape = data.draw(st.sampled_from(shapes))
    for primitive in (WRITE, ACCUMULATE_AT):
        if primitive is WRITE and _repeats(shape, index):
            continue  # which of two writes to one place wins is not defined
        if primitive is ACCUMULATE_AT and given_shape not in ((), target):
            continue  # NumPy 2.4 itself goes wrong where add.at has to broadcast
        lab = Lab()
        base = lab.parameter(values(seed, shape))
        value = lab.parameter(values(seed + 1, given_shape))
        check(lab, seed, lab.node(primitive, base, value, index=index), *moving)


def _repeats(shape: tuple[int, ...], index: Any) -> bool:
    places = np.arange(np.prod(shape)).reshape(shape)[index]
    return len(np.unique(places)) < np.size(places)


LABELS = [
    ((0, 1), (1, 2), (0, 2)),
    ((0, 1), (2, 1), (0, 2)),
    ((0, 1), (1,), (0,)),
    ((1,), (1,), ()),
    ((0, 1, 2), (0, 2, 3), (0, 1, 3)),
    ((0, 1, 2), (2, 3), (3, 0, 1)),
    ((0, 1), (0, 1), (1,)),
    ((0, 1), (0, 1), (0, 1)),
    ((0, 1), (2, 3), (3, 0, 2)),
    ((0, 1), (2,), (0, 2)),
    ((0, 1, 2), (1, 2, 3), (0, 3)),
    ((0, 1), (1, 2), ()),
    ((2, 0), (2, 1), (1, 0)),
    ((0,), (), (0,)),
]


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("moving", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("sizes", [(2, 3, 4, 2), (1, 3, 1, 2), (3, 1, 2, 1)])
def test_contraction(labels, moving, sizes) -> None:
    for seed in range(8):
        lab = Lab()
        a, b = (
            lab.parameter(values(seed + k, tuple(sizes[x] for x in group)))
            for k, group in enumerate(labels[:2])
        )
        check(lab, seed, lab.node(CONTRACT, a, b, labels=labels), *moving)


def test_a_perturbed_weight_costs_no_matrix_product(lab) -> None:
    """One element of W a copy changes one row of W @ X: the difference stays pinned there."""
    w, x = lab.parameter(np.ones((6, 4))), lab.tape.constant(np.ones((4, 50)))
    node = lab.node(CONTRACT, w, x, labels=((0, 1), (1, 2), (0, 2)))
    rng = np.random.default_rng(3)
    delta = lab.delta(rng, w, 1.0)
    while len(delta.pins) < 2:
        delta = lab.delta(rng, w, 1.0)
    out = lab.propagate(node, delta, None)
    assert out.values.shape == (COPIES, 1, 50)
    assert list(out.pins) == [0]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("moving", [(True, True), (True, False), (False, True)])
def test_where_with_a_mask_that_stays(lab, seed, moving) -> None:
    x, y = lab.parameter(values(seed, (3, 4))), lab.parameter(values(seed + 1, (4,)))
    node = lab.node(WHERE, values(seed, (3, 1)) > 0, x, y)
    check(lab, seed, node, False, *moving)


def test_casting_to_single_precision_keeps_the_difference(lab) -> None:
    x = lab.parameter(values(0, (3,)))
    delta = lab.delta(np.random.default_rng(0), x, 1e-12)
    out = lab.propagate(lab.node(CAST, x, dtype=np.dtype(np.float32)), delta)
    np.testing.assert_array_equal(out.values, delta.values)


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_a_pin_follows_its_axis(lab, axes) -> None:
    x = lab.parameter(np.ones((2, 3, 4)))
    delta = lab.delta(np.random.default_rng(1), x, 1.0)
    out = lab.propagate(lab.node(TRANSPOSE, x, axes=axes), delta)
    assert {axes[axis] for axis in out.pins} == set(delta.pins)


def test_index_arrays_that_stand_apart_come_first() -> None:
    form = normal_form((np.array([0, 1]), slice(None), np.array([1, 0])), 3)
    assert form.result == ("advanced", 1)


def test_index_arrays_side_by_side_stay_in_place() -> None:
    form = normal_form((slice(None), np.array([0, 1]), np.array([1, 0])), 3)
    assert form.result == (0, "advanced")


def test_an_array_without_elements_never_changes(lab) -> None:
    x, nothing = lab.parameter(np.ones(1)), lab.tape.constant(np.empty(0))
    node = lab.tape.apply(WHERE, lab.tape.constant(np.empty(0, dtype=bool)), x, nothing)
    delta = lab.delta(np.random.default_rng(0), x, 1.0)
    assert lab.propagate(node, None, delta, None) is None
