"""Flat positions that are windows are picked axis by axis, and everything else as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided, sliding_window_view

import fastcheck
from fastcheck.params import ParamTree
from fastcheck.report.data import Verdict
from fastcheck.trace.primitives import INDEX, RESHAPE
from fastcheck.trace.separable import axis_by_axis
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tape import Tape
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(21)
X = RNG.standard_normal((3, 6, 5, 4))
PLACES = np.arange(X.size).reshape(X.shape)
SEPARABLE = {
    "windows": sliding_window_view(PLACES, (2, 3), (1, 2)),
    "windows of one axis": sliding_window_view(PLACES, 3, 2),
    "turned around": PLACES.transpose(3, 1, 0, 2)[:, :, ::-1],
    "every other row": PLACES[:, ::2],
    "repeated": np.broadcast_to(PLACES[:, 1:], (2, 3, 5, 5, 4)),
    "one row": PLACES[:, 2],
}


def picked(places: Any) -> Any:
    tape = Tape()
    flat = tape.apply(RESHAPE, tape.parameter("x", X), shape=(-1,))
    return axis_by_axis(tape.apply, flat, (np.array(places),))


@pytest.mark.parametrize("places", SEPARABLE.values(), ids=SEPARABLE)
def test_what_separates_has_the_same_elements(places) -> None:
    node = picked(places)
    assert node is not None
    np.testing.assert_array_equal(node.value, X.reshape(-1)[places])


def test_axes_that_are_taken_whole_stay_slices() -> None:
    node = picked(SEPARABLE["windows"])
    while node.primitive is not INDEX:
        (node,) = node.operands
    index = node.params["index"]
    assert [part == slice(None) for part in index if isinstance(part, slice)] == [True, True]
    assert isinstance(index[0], slice)
    assert isinstance(index[3], slice)


@pytest.mark.parametrize(
    "places",
    [
        RNG.integers(X.size, size=(3, 6)),
        as_strided(np.arange(X.size), (5, 90, 2), (32, 8, 8)),  # windows over the ends of rows
        PLACES.reshape(-1),
        -1 - PLACES,
    ],
    ids=["at random", "over the ends of rows", "all", "from the end"],
)
def test_what_does_not_is_left_alone(places) -> None:
    assert picked(places) is None


@pytest.mark.parametrize("seed", range(40))
def test_any_window_has_the_same_elements(seed) -> None:
    rng = np.random.default_rng(seed)
    places = PLACES.transpose(rng.permutation(4))
    axes = tuple(int(axis) for axis in rng.choice(4, size=rng.integers(1, 5), replace=False))
    sizes = [int(rng.integers(1, places.shape[axis] + 1)) for axis in axes]
    places = sliding_window_view(places, sizes, axes)[:: rng.integers(1, 3)]
    node = picked(places)
    if node is not None:
        np.testing.assert_array_equal(node.value, X.reshape(-1)[places])


def windows_of_a_layer(p: Any) -> Any:
    hidden = np.tanh(X @ p["W"])
    windows = sliding_window_view(hidden, (2, 2), (1, 2))
    return np.sum(np.tensordot(windows, p["K"], axes=((4, 5, 3), (0, 1, 2))) ** 2)


def strided_windows_of_a_layer(p: Any) -> Any:
    hidden = np.maximum(X @ p["W"], 0)
    n, rows, columns, channels = hidden.shape
    a, b, c, d = hidden.strides
    windows = as_strided(hidden, (n, rows - 1, columns - 1, 2, 2, channels), (a, b, c, b, c, d))
    return np.sum(np.einsum("nijklc,klcf->nijf", windows, p["K"]) ** 3)


PARAMS = {"W": RNG.standard_normal((4, 7)), "K": RNG.standard_normal((2, 2, 7, 3))}


@pytest.mark.parametrize("loss", [windows_of_a_layer, strided_windows_of_a_layer])
def test_a_check_reads_them_axis_by_axis(loss) -> None:
    graph = simplify(trace(loss, ParamTree.from_user(PARAMS)))
    assert not any(n.primitive is INDEX and n.operands[0].ndim == 1 for n in graph)
    right = fastcheck.numerical_gradient(loss, PARAMS, engine="loop")
    wrong = {"W": right["W"] * 1.01, "K": right["K"]}
    assert fastcheck.check(loss, PARAMS, right, engine="replay")
    report = fastcheck.check(loss, PARAMS, wrong, engine="replay")
    assert report.tensors["W"].verdict is Verdict.FAIL
    assert report.tensors["K"].verdict is Verdict.PASS
