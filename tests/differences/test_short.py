"""Reductions by slices are the reductions, whatever is short and whatever is long."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.differences.delta import along
from fastcheck.differences.short import elementwise, reduced

RNG = np.random.default_rng(9)


@pytest.mark.parametrize("ufunc", [np.add, np.maximum, np.minimum, np.logical_or])
@pytest.mark.parametrize(
    "shape", [(2000, 3), (40, 5, 3, 40), (300, 1, 17), (9, 2, 50, 2, 6), (2, 3)]
)
def test_every_choice_of_axes(ufunc, shape) -> None:
    values = RNG.standard_normal(shape)
    if ufunc is np.logical_or:
        values = values > 1.5
    for bits in range(1, 2 ** len(shape)):
        axes = tuple(axis for axis in range(len(shape)) if bits >> axis & 1)
        found = reduced(np, ufunc, values.copy(), axes)
        wanted = ufunc.reduce(values, axis=axes, keepdims=True)
        assert found.shape == wanted.shape
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_nothing_is_written_into() -> None:
    values = RNG.standard_normal((3000, 3))
    before = values.copy()
    reduced(np, np.add, values, (1,))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 6])
def test_one_element_along_an_axis(axis, rows) -> None:
    values = RNG.standard_normal((6, 4, 3, 5))
    shape = list(values.shape)
    shape[axis], shape[0] = 1, rows
    places = RNG.integers(values.shape[axis], size=shape)
    wanted = np.take_along_axis(values, np.broadcast_to(places, (6, *shape[1:])), axis=axis)
    np.testing.assert_array_equal(along(np, values, places, axis), wanted)
    turned = np.asfortranarray(values)
    np.testing.assert_array_equal(along(np, turned, places, axis), wanted)


def test_places_along_an_axis_that_does_not_vary() -> None:
    values = RNG.standard_normal((6, 1, 5))  # the same for all positions of axis 1
    places = RNG.integers(5, size=(1, 4, 1))
    wanted = np.take_along_axis(
        np.broadcast_to(values, (6, 4, 5)), np.broadcast_to(places, (6, 4, 1)), axis=2
    )
    np.testing.assert_array_equal(along(np, values, places, 2), wanted)


@pytest.mark.parametrize("few", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("into", ["new memory", "the first"])
def test_operands_that_are_the_same_along_a_short_axis(few, into) -> None:
    shape = (60, 70, few)
    first = RNG.standard_normal(shape)
    for other in (shape, (60, 70, 1), (1, 70, few), (1, 1, few), (1, 1, 1), (60, 1, 1)):
        second = RNG.standard_normal(other)
        wanted = first / second
        start = first.copy()
        out = np.empty(shape) if into == "new memory" else start
        found = elementwise(np, np.divide, (start, second), out)
        assert found is out
        np.testing.assert_array_equal(found, wanted)
    column = RNG.standard_normal((60, 70, 1))
    row = RNG.standard_normal((1, 70, few))
    found = elementwise(np, np.multiply, (column, row), np.empty(shape))
    np.testing.assert_array_equal(found, column * row)
