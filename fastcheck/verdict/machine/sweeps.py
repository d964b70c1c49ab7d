"""The sweeps at work: loaded once a process, and called with the addresses of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import addressof, c_char
from functools import cache
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from fastcheck.engines.base import Differences, Engine, FloatArray, IndexArray
from fastcheck.engines.fused import FusedEngine
from fastcheck.engines.lanes import LanesEngine
from fastcheck.verdict.bars import LEAST_SQUARE, MOST_SQUARE
from fastcheck.verdict.machine.code import READ, READ_ANSWER, READ_GIVEN, SUM, SUM_ANSWER, text

_DOUBLE, _INTEGER, _BOOL = np.dtype(np.float64), np.dtype(np.int64), np.dtype(np.bool_)
_REST = (0.0,) * (len(READ_ANSWER) - len(READ_GIVEN))


class Read(NamedTuple):
    """What a `Reading` says of differences that are all ordinary."""

    values: FloatArray
    top: float
    bends: FloatArray
    noise: FloatArray
    bent: float


class Sums(NamedTuple):
    """What a comparison says of elements that are all ordinary; see `Comparison`."""

    tops: tuple[float, float]
    any_outside: bool
    furthest: int
    sizes: tuple[float, float]
    difference: float
    bars: float
    bars_and_floor: float
    projection: tuple[float, float, float, float]


class _NotOrdinaryError(Exception):
    """NumPy has to have a look."""


def read(
    near: Differences,
    theta: FloatArray,
    indices: IndexArray,
    given: tuple[float, float, float],
) -> Read | None:
    """Read differences; None where they are not ordinary.

    Parameters
    ----------
    near : Differences
        At the very steps that were asked for.
    theta : (n,) float64
        All parameters of the tensor.
    indices : (k,) int64
        Which of them were perturbed.
    given : tuple of float
        The scale of the tensor, the factor of the gradient noise, and what share of the largest
        derivative is added to each for the bends.
    """
    count, size = len(indices), len(theta)
    try:
        there = (
            *_addresses(count, _DOUBLE, near.plus, near.minus, near.step_plus, near.step_minus),
            *_addresses(count, _BOOL, near.kinked),
            *_addresses(size, _DOUBLE, theta),
            *_addresses(count, _INTEGER, indices),
        )
        rows, numbers = np.empty((3, count)), np.array((*given, size, *_REST))
        _function()(*there, _start(rows), _start(numbers), READ, count)
        top, odd, kinked, square, peak, bent = numbers.tolist()
        if odd != 0 or kinked:
            return None
        _root(square, peak)
    except _NotOrdinaryError:
        return None
    return Read(rows[0], top, rows[1], rows[2], bent)


def sums(
    analytic: FloatArray,
    values: FloatArray,
    error_bar: FloatArray,
    noise: FloatArray,
    given: tuple[float, float, float, float, float],
) -> Sums | None:
    """Sum up a comparison of elements off the kinks; None where something is not ordinary.

    Parameters
    ----------
    analytic, values, error_bar, noise : (k,) float64
        g, n, B and the gradient noise.
    given : tuple of float
        R and T, the same for every element; rtol and gamma; what rounding leaves of zero.
    """
    count, floor = len(values), given[-1]
    numbers = np.empty(len(SUM_ANSWER))
    numbers[: len(given)] = given
    try:
        there = _addresses(count, _DOUBLE, analytic, values, error_bar, noise)
        _function()(*there, _start(numbers), 0, 0, 0, 0, SUM, count)
        odd, top_g, top_n, outside, furthest, apart, widest, *squares = numbers.tolist()
        if odd != 0:
            return None
        g, n, difference, bars, both = squares[:5]
        return Sums(
            (top_g, top_n),
            outside > 0,
            int(furthest),
            (_root(g, top_g), _root(n, top_n)),
            _root(difference, apart),
            _root(bars, widest),
            _root(both, widest + floor),
            (squares[5], g, squares[6], squares[7]),
        )
    except _NotOrdinaryError:
        return None


def _root(square: float, peak: float) -> float:
    """Return a norm from its square, if that has lost nothing to the range of floats."""
    if LEAST_SQUARE < square < MOST_SQUARE:
        return math.sqrt(square)
    if peak == 0:
        return 0.0
    raise _NotOrdinaryError


def _addresses(count: int, dtype: np.dtype[Any], *arrays: NDArray[Any]) -> list[int]:
    """Return where arrays lie, if they are what the machine code takes them for."""
    for array in arrays:
        if array.dtype is not dtype or len(array) != count:
            raise _NotOrdinaryError
    try:
        return [_start(array) for array in arrays]
    except (TypeError, ValueError, BufferError):  # not contiguous, or read-only, or empty
        raise _NotOrdinaryError from None


def _start(array: NDArray[Any]) -> int:
    return addressof(c_char.from_buffer(cast(Any, array)))


def at_hand(engine: Engine) -> bool:
    """Whether LLVM has run for an engine's differences, so that sweeps cost next to nothing."""
    if not isinstance(engine, FusedEngine | LanesEngine) or engine.device != "cpu":
        return False
    return _loaded() is not None


def _function() -> Callable[..., None]:
    function = _loaded()
    assert function is not None
    return function


@cache
def _loaded() -> Callable[..., None] | None:
    """Return the machine code; None where it cannot be had, which is no matter."""
    try:
        from fastcheck.fusion.compiler import compiled_text

        return compiled_text(text())
    except Exception:
        return None
