"""The steps to a view lead to its very elements, laid out as they are; overlaps have none."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided, sliding_window_view

from fastcheck.trace.views import owner_of, steps_to

VIEWS = """
A[1]
A[1:3]
A[:, 1:3]
A[::2]
A[1::2, ::3]
A[::-1]
A[:, ::-2]
A.T
A.T[1:, 2]
A.reshape(-1)[3:13].reshape(2, 5)
A.reshape(-1)[3:13].reshape(2, 5).T
A.reshape(2, 3, 4)[:, ::2, 1:]
A.reshape(2, 3, 4).transpose(2, 0, 1)[::-1]
A[None, :, None, 2]
A[2, 3:4]
A[...]
np.diagonal(A)
A[:3, :3].T[::-1]
"""


def followed(view: np.ndarray, owner: np.ndarray) -> Any:
    found = owner
    for primitive, params in steps_to(view, owner) or ():
        found = primitive.evaluate(found, **params)
    return found


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("how", VIEWS.strip().splitlines())
def test_the_steps_lead_to_the_view(how: str, order: Any) -> None:
    A = np.array(np.arange(24.0).reshape(6, 4), order=order)
    view = eval(how)
    if owner_of(view) is not A:
        pytest.skip("NumPy copies this")
    steps = steps_to(view, A)
    if "diagonal" in how and steps is None:
        return
    assert steps is not None
    found = followed(view, A)
    np.testing.assert_array_equal(found, view)
    found[...] = -1.0
    assert (view == -1).all()


@given(st.data())
def test_random_views(data: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3))
    A = np.arange(float(np.prod(shape))).reshape(shape).copy()
    view = A
    for _ in range(data.draw(st.integers(1, 3))):
        parts = []
        for length in view.shape:
            start = data.draw(st.integers(0, length - 1))
            step = data.draw(st.sampled_from([1, 2, -1, 3]))
            parts.append(slice(start, None, step))
        view = view[tuple(parts)]
        view = view.transpose(data.draw(st.permutations(range(view.ndim))))
    steps = steps_to(view, A)
    if steps is None:  # a refusal is always right, if rarely needed
        return
    assert followed(view, A).__array_interface__["data"] == view.__array_interface__["data"]
    np.testing.assert_array_equal(followed(view, A), view)


def test_what_is_no_grid_has_no_steps() -> None:
    A = np.arange(12.0)
    assert steps_to(np.broadcast_to(A, (2, 12)), A) is None
    assert steps_to(sliding_window_view(A, 3), A) is None
    assert steps_to(as_strided(A, (3, 3), (8, 8)), A) is None
    assert steps_to(A.view(np.int64), A) is None
    assert steps_to(A[:0], A) is None
    assert steps_to(A.view(np.uint8)[1:9].view(np.float64), A) is None
