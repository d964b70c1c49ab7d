"""Gradients whose elements are right but stand in the wrong places."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.verdict.diagnosis.evidence import Evidence, Places, TensorFacts, Tensors
from fastcheck.verdict.diagnosis.factors import Estimate, Factor, recognise
from fastcheck.verdict.diagnosis.hypothesis import Hypothesis

Source = Callable[[IndexArray], IndexArray]
"""From the flat places of g to the flat places of n that the values came from."""


def layouts(evidence: Evidence, tensors: Tensors) -> dict[str, list[Hypothesis]]:
    """Return for each tensor: transposes, flips and permutations along an axis."""
    found: dict[str, list[Hypothesis]] = {}
    for facts in tensors:
        factor = _same_values(facts, evidence)
        if factor is None:
            continue
        found[facts.name] = [
            _moved(facts, cause, source, factor.value * sign, figures)
            for sign in (1.0, -1.0)
            for cause, source, figures in _arrangements(facts, factor.value * sign)
        ]
    return found


def _same_values(facts: TensorFacts, evidence: Evidence) -> Factor | None:
    """Return by which telling factor g is longer than n: moving elements keeps lengths."""
    g, n = facts.sizes
    if not (facts.complete and facts.finite and g > 0 and n > 0 and facts.size > 1):
        return None
    off = float(np.linalg.norm(facts.bars)) / n
    factor = recognise(Estimate(g / n, g / n * off), evidence, facts.tolerance)
    return factor if factor.named else None


def _moved(
    facts: TensorFacts, cause: str, source: Source, factor: float, figures: dict[str, Any]
) -> Hypothesis:
    def predict(places: Places) -> tuple[FloatArray, FloatArray]:
        origin = source(np.arange(facts.size) if isinstance(places, slice) else places)
        bars = np.maximum(facts.bars[origin], facts.bars[places])
        return factor * facts.numeric[origin], max(1.0, abs(factor)) * bars

    plain = 1.0 if cause == "transpose" else 1.5 if "axes" in figures else 2.0
    return Hypothesis(
        cause,
        (cause, factor, *_figures_key(figures)),
        plain if factor == 1 else plain + 0.75,
        predict,
        figures={**figures, "factor": Factor(factor)},
    )


def _figures_key(figures: dict[str, Any]) -> tuple[Any, ...]:
    return tuple((k, v.tobytes() if isinstance(v, np.ndarray) else v) for k, v in figures.items())


def _arrangements(
    facts: TensorFacts, factor: float
) -> Iterator[tuple[str, Source, dict[str, Any]]]:
    shape = facts.shape
    long = [axis for axis, length in enumerate(shape) if length > 1]
    for one, other in combinations(long, 2):
        if shape[one] == shape[other]:
            yield "transpose", _swapping(shape, one, other), {}
    if len({shape[axis] for axis in long}) > 1 or len(long) > 2:
        yield "transpose", _reading_in_other_order(shape), {"reshaped": True}
        yield "transpose", _writing_in_other_order(shape), {"reshaped": True}
    for axes in [(axis,) for axis in long] + list(combinations(long, 2)):
        yield _permuted(shape, axes), _flipping(shape, axes), {"axes": axes}
    for axis in long:
        order = _order_along(facts, axis, factor)
        if order is not None:
            figures = {"axis": axis, "order": order}
            yield _permuted(shape, (axis,)), _taking(shape, axis, order), figures


def _permuted(shape: tuple[int, ...], axes: tuple[int, ...]) -> str:
    if len(shape) == 2 and len(axes) == 1:
        return ("permuted-rows", "permuted-columns")[axes[0]]
    return "permuted"


def _swapping(shape: tuple[int, ...], one: int, other: int) -> Source:
    def source(places: IndexArray) -> IndexArray:
        index = list(np.unravel_index(places, shape))
        index[one], index[other] = index[other], index[one]
        return np.ravel_multi_index(tuple(index), shape)

    return source


def _reading_in_other_order(shape: tuple[int, ...]) -> Source:
    """n.T.reshape(shape): n laid out column by column, read row by row."""

    def source(places: IndexArray) -> IndexArray:
        index = np.unravel_index(places, shape[::-1])
        return np.ravel_multi_index(index[::-1], shape)

    return source


def _writing_in_other_order(shape: tuple[int, ...]) -> Source:
    """n.reshape(shape[::-1]).T."""

    def source(places: IndexArray) -> IndexArray:
        index = np.unravel_index(places, shape)
        return np.ravel_multi_index(index[::-1], shape[::-1])

    return source


def _flipping(shape: tuple[int, ...], axes: tuple[int, ...]) -> Source:
    def source(places: IndexArray) -> IndexArray:
        index = list(np.unravel_index(places, shape))
        for axis in axes:
            index[axis] = shape[axis] - 1 - index[axis]
        return np.ravel_multi_index(tuple(index), shape)

    return source


def _taking(shape: tuple[int, ...], axis: int, order: IndexArray) -> Source:
    def source(places: IndexArray) -> IndexArray:
        index = list(np.unravel_index(places, shape))
        index[axis] = order[index[axis]]
        return np.ravel_multi_index(tuple(index), shape)

    return source


def _order_along(facts: TensorFacts, axis: int, factor: float) -> IndexArray | None:
    """Return where along an axis each slice of g stands in n, if sorting tells; else None.

    Slices are told apart by their product with one random vector, so that this takes no more than
    reading the tensor and sorting; whether the order is right is for the exact fit to say.
    """
    g = np.moveaxis(facts.analytic.reshape(facts.shape), axis, 0)
    n = np.moveaxis(facts.numeric.reshape(facts.shape), axis, 0)
    rest = math.prod(g.shape[1:])
    along = np.random.default_rng(0).standard_normal(g.shape[1:]) if rest > 1 else np.ones(1)
    dims = (range(1, g.ndim), range(g.ndim - 1)) if rest > 1 else None
    marks, known = (
        np.tensordot(x, along, dims) if dims is not None else x.reshape(-1) for x in (g, n)
    )
    order = np.empty(len(marks), dtype=np.int64)
    order[np.argsort(marks, kind="stable")] = np.argsort(factor * known, kind="stable")
    # Slices that are equal, such as zeros, are not moved about for nothing.
    same = known[order] == known
    order = np.where(same, np.arange(len(order)), order)
    return order if not same.all() else None


def describe_order(order: IndexArray) -> str:
    """Return in words how slices were moved; those that are equal may be said to have stayed."""
    count = len(order)
    places = np.arange(count)
    shifts = (places - order)[order != places] % count
    shift = int(shifts[0])
    if (shifts == shift).all() and len(shifts) > 2:
        back = shift > count // 2
        steps = count - shift if back else shift
        return f"moved {'back' if back else 'on'} by {steps}, those at the end coming round"
    moved = np.flatnonzero(order != places)
    if len(moved) == 2:
        return f"{moved[0]} and {moved[1]} are swapped"
    return f"{len(moved)} of {count} stand in other places"
