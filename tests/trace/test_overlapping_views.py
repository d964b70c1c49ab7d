"""Views whose elements overlap: what is written below shows in them; they are not written to."""

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from .conftest import refusal, traced


def strided(a: Any, shape: Any, *steps: int) -> Any:
    """A view by strides that the code computes from the array's own."""
    row, column = a.strides
    pairs = [(steps[k], steps[k + 1]) for k in range(0, 2 * len(shape), 2)]
    return as_strided(a, shape, [row * down + column * across for down, across in pairs])


@pytest.mark.parametrize(
    "view",
    [
        lambda a: strided(a, (2, 3), 1, 0, 0, 1),
        lambda a: strided(a, (2, 2, 2), 1, 0, 0, 1, 0, 1),
        lambda a: strided(a, (3,), 1, 1),
        lambda a: strided(a, (3, 4), 0, 0, 0, 1),
        lambda a: strided(a[::-1], (3, 2), 1, 0, 0, 2),
        lambda a: strided(a.T, (2, 2, 2), 1, 0, 0, 1, 1, 0),
        lambda a: as_strided(a[1:]),
        lambda a: np.lib.stride_tricks.as_strided(a, (5,), (8,)),
        lambda a: sliding_window_view(a, (2, 2)),
        lambda a: np.lib.stride_tricks.sliding_window_view(a[:, ::-1], 3, axis=1),
        lambda a: sliding_window_view(a, (2, 1), axis=(0, 0)),
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_is_written_to_the_array_shows_in_the_view(
    x: np.ndarray, view: Any, late: bool
) -> None:
    def loss(a: Any) -> Any:
        a = a * 1.0
        seen = view(a)
        if late:
            a[0] *= 3.0
            a[1:, 1] = a[0, 0]
        shape = (seen.shape, seen.ndim)
        weights = np.cos(np.arange(np.prod(shape[0]))).reshape(shape[0])
        return np.sum(seen**2 * weights)

    traced(loss, x)


def test_a_view_by_strides_that_does_not_overlap_is_written_through(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        a = a * 1.0
        diagonal = as_strided(a, (3,), (a.strides[0] + a.strides[1],))
        diagonal *= 2.0
        diagonal[0] = a[2, 3]
        return np.sum(a**3)

    traced(loss, x)


@pytest.mark.parametrize(
    "write",
    [
        lambda w: w.__setitem__((0, 0), 1.0),
        lambda w: w.__imul__(2.0),
        lambda w: np.add.at(w, 0, 1.0),
        lambda w: np.multiply(w, 2.0, out=w),
        lambda w: w.fill(1.0),
        lambda w: w[0].__setitem__(1, 2.0),
    ],
)
def test_a_view_that_overlaps_is_not_written_to(x: np.ndarray, write: Any) -> None:
    def loss(a: Any) -> Any:
        a = a * 1.0
        windows = strided(a, (2, 2, 2), 1, 0, 0, 1, 0, 1)
        write(windows)
        return a.sum()

    assert "a view whose elements overlap in memory is written to" in refusal(loss, x)


def test_memory_beyond_the_array_is_refused(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        return as_strided(a[1:], (3,), (-a.strides[0],)).sum()

    assert "as_strided beyond the elements" in refusal(loss, x)


def test_plain_data_is_viewed_as_usual(x: np.ndarray) -> None:
    data = np.arange(6.0)

    def loss(a: Any) -> Any:
        return np.sum(as_strided(data, (3, 2), (16, 8)) * a[:, :2])

    traced(loss, x)
