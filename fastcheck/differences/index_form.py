"""The normal form of a NumPy index: what indexes each axis, and where each result axis is from."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcheck.differences.delta import Array

_GAP = "gap"
"""Where an ellipsis was."""


@dataclass(frozen=True)
class Normal:
    """An index in normal form: one entry an axis of the array, and where each result axis is from.

    `basic` maps an axis to an int or slice; `advanced` maps an axis to an integer array (all of one
    broadcast shape). `result` lists the result's axes: an axis number, "new", or "advanced" (which
    stands for as many axes as the index arrays have).
    """

    basic: dict[int, int | slice]
    advanced: dict[int, Array]
    result: tuple[int | str, ...]


def normal_form(index: Any, ndim: int) -> Normal:
    """Bring a NumPy index into normal form."""
    parts = _expanded(index if isinstance(index, tuple) else (index,), ndim)
    basic: dict[int, int | slice] = {}
    advanced: dict[int, Any] = {}
    result: list[int | str] = []
    places: list[int] = []  # positions in the index of advanced entries (ints count among them)
    has_arrays = any(isinstance(part, np.ndarray) for part in parts)
    axis = 0
    for place, part in enumerate(parts):
        if part is _GAP:
            continue
        if part is None:
            result.append("new")
            continue
        if isinstance(part, slice):
            basic[axis] = part
            result.append(axis)
        elif has_arrays:
            advanced[axis] = np.asarray(part)
            if not places:
                result.append("advanced")
            places.append(place)
        else:
            basic[axis] = operator.index(part)
        axis += 1
    if places and places[-1] - places[0] != len(places) - 1:
        # Index arrays apart from each other: NumPy puts their axes first.
        result.remove("advanced")
        result.insert(0, "advanced")
    if advanced:
        shape = np.broadcast_shapes(*[array.shape for array in advanced.values()])
        advanced = {one: np.broadcast_to(array, shape) for one, array in advanced.items()}
    return Normal(basic, advanced, tuple(result))


def _expanded(index: tuple[Any, ...], ndim: int) -> list[Any]:
    """Replace masks by positions and the ellipsis by slices; fill up with slices."""
    parts: list[Any] = []
    for part in index:
        if isinstance(part, (np.ndarray, list, bool, np.bool_)):
            array = np.asarray(part)
            if array.dtype == bool:
                parts += list(array.nonzero()) if array.ndim else [_flag(array)]
            elif array.ndim == 0:
                parts.append(int(array) if isinstance(part, np.generic) else array)
            else:
                parts.append(array)
        else:
            parts.append(part)
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (ndim - used)
    for place, part in enumerate(parts):
        if part is Ellipsis:
            # Index arrays on its two sides stand apart even where it stands for no axis.
            return [*parts[:place], _GAP, *rest, *parts[place + 1 :]]
    return parts + rest


def _flag(array: Array) -> Any:
    raise TypeError(f"an index of a single {bool(array)} should have been refused by the trace")
