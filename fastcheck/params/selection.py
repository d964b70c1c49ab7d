"""Which parameters to check: the user's `select` as flat indices into each tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.errors import InputError, InputTypeError
from fastcheck.params.leaves import listed
from fastcheck.params.places import on_host
from fastcheck.params.tree import ParamTree, Tensor

_Indices = NDArray[np.int64]
_FORMS = '"all", a number per tensor, or a dict from tensor names to masks or indices'


class _UnusableError(Exception):
    """Why one entry of `select` cannot be used."""


def select_indices(tree: ParamTree, select: object, seed: int | None = 0) -> dict[str, _Indices]:
    """Turn `select` into the indices to check.

    Parameters
    ----------
    tree
        The parameters.
    select
        "all"; a number of elements per tensor, drawn at random without replacement (all of a
        tensor that has fewer); or a dict whose keys are tensor names and whose values are "all",
        a boolean mask of the tensor's shape, flat indices in C order, a tuple with an index array
        for each axis (as `numpy.nonzero` gives), or a list of index tuples (or an array of such
        rows, as `numpy.argwhere` gives). Negative indices count from the end, as in NumPy.
        Tensors that the dict does not name are not checked. What is said of a complex tensor is
        said of its elements: both parts of those are checked.
    seed
        What the random draw starts from, as `numpy.random.default_rng` takes it.

    Returns
    -------
    dict
        Tensor name → int64 flat indices in C order, sorted, each once. Every tensor is there.
        Those of a complex tensor count its parts.

    Raises
    ------
    InputError
        If a name is unknown, a mask has another shape, an index is out of range, or nothing at
        all is selected. All such entries are named.
    InputTypeError
        If `select` is none of these forms.
    """
    if isinstance(select, str) and select == "all":
        return {tensor.name: np.arange(tensor.size, dtype=np.int64) for tensor in tree}
    if isinstance(select, int | np.integer) and not isinstance(select, bool):
        return _random_indices(tree, int(select), seed)
    if isinstance(select, Mapping):
        return _given_indices(tree, select)
    kind = InputError if isinstance(select, str) else InputTypeError
    raise kind(f"`select` is {_short(select)}; use {_FORMS}.")


def _random_indices(tree: ParamTree, number: int, seed: int | None) -> dict[str, _Indices]:
    if number < 1:
        raise InputError(f"`select` is {number}; select at least 1 parameter per tensor.")
    try:
        rng = np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`seed` is {_short(seed)}; use a non-negative integer or None ({error})."
        ) from None
    drawn = {tensor.name: _draw(rng, tensor.elements, number) for tensor in tree}
    return {tensor.name: _with_parts(tensor, drawn[tensor.name]) for tensor in tree}


def _draw(rng: np.random.Generator, size: int, number: int) -> _Indices:
    if number >= size:
        return np.arange(size, dtype=np.int64)
    return np.sort(rng.choice(size, number, replace=False, shuffle=False)).astype(np.int64)


def _given_indices(tree: ParamTree, select: Mapping[Any, Any]) -> dict[str, _Indices]:
    problems = [f"{name!r}: no such tensor" for name in select if name not in tree]
    chosen = {tensor.name: np.empty(0, dtype=np.int64) for tensor in tree}
    for tensor in tree:
        if tensor.name in select:
            try:
                found = np.unique(_flat_indices(tensor, select[tensor.name]))
                chosen[tensor.name] = _with_parts(tensor, found)
            except _UnusableError as reason:
                problems.append(f"{tensor.name}: {reason}")
    if problems:
        shapes = ", ".join(f"{tensor.name} {tensor.user_shape}" for tensor in tree.tensors[:20])
        more = f" and {len(tree) - 20} more" if len(tree) > 20 else ""
        raise InputError(
            f"`select` does not fit the parameters:\n{listed(problems)}\n"
            f"Use masks or indices for {shapes}{more}."
        )
    if not any(indices.size for indices in chosen.values()):
        raise InputError("`select` selects no parameter; select at least one.")
    return chosen


def _with_parts(tensor: Tensor, elements: _Indices) -> _Indices:
    """The parameters of these elements: one each, or two of a complex tensor."""
    if not tensor.is_complex:
        return elements
    return np.stack([2 * elements, 2 * elements + 1], axis=-1).reshape(-1)


def _flat_indices(tensor: Tensor, spec: Any) -> _Indices:
    shape = tensor.user_shape
    if isinstance(spec, str) and spec == "all":
        return np.arange(tensor.elements, dtype=np.int64)
    if isinstance(spec, tuple):
        return _from_axes(tensor, spec)
    if isinstance(spec, str | bytes | int | float | np.generic | Mapping) or spec is None:
        raise _UnusableError(
            f"{_short(spec)} is neither a mask nor a list of indices; use [0] for one index"
        )
    array = _as_array(spec)
    if array.dtype == np.bool_:
        return _from_mask(tensor, array)
    if array.size == 0:
        # An empty list has no integer dtype; and [()] is the one index of a 0-d tensor.
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise _UnusableError(f"indices of dtype {array.dtype}; use integers or a boolean mask")
    if array.ndim == 1:
        return _in_range(array, tensor.elements, f"{tensor.elements} elements")
    if array.ndim == 2 and array.shape[1] == len(shape):
        return _from_axes(tensor, tuple(array.T) if shape else (), rows=len(array))
    raise _UnusableError(
        f"indices of shape {array.shape}; use flat indices, or {len(shape)} per element"
    )


def _as_array(spec: Any) -> NDArray[Any]:
    try:
        return np.asarray(on_host(spec))
    except ValueError:
        raise _UnusableError("index tuples of different lengths; give one index per axis") from None


def _from_mask(tensor: Tensor, mask: NDArray[np.bool_]) -> _Indices:
    if mask.shape != tensor.user_shape:
        raise _UnusableError(
            f"a mask of shape {mask.shape} for a tensor of shape {tensor.user_shape}"
        )
    return np.flatnonzero(mask).astype(np.int64)


def _from_axes(tensor: Tensor, axes: tuple[Any, ...], rows: int = 1) -> _Indices:
    """One index array per axis, broadcast together."""
    shape = tensor.user_shape
    if len(axes) != len(shape):
        raise _UnusableError(
            f"a tuple of {len(axes)} for a tensor with {len(shape)} axes; give one index "
            "array per axis, or a list of flat indices"
        )
    if not axes:
        return np.zeros(rows, dtype=np.int64)
    arrays = [_as_array(axis) for axis in axes]
    if any(array.dtype.kind not in "iu" and array.size for array in arrays):
        kinds = ", ".join(str(array.dtype) for array in arrays)
        raise _UnusableError(f"index arrays of dtype {kinds}; use integers")
    places = [
        _in_range(array, length, f"axis {axis} of length {length}")
        for axis, (array, length) in enumerate(zip(arrays, shape, strict=True))
    ]
    try:
        flat = np.ravel_multi_index(tuple(places), shape)
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise _UnusableError(f"index arrays of shapes {shapes} do not broadcast together") from None
    return np.asarray(flat, dtype=np.int64).reshape(-1)


def _in_range(array: NDArray[Any], length: int, where: str) -> _Indices:
    """The indices as int64, negative ones counted from the end."""
    outside = (array < -length) | (array >= length)
    if outside.any():
        worst = int(array[outside].flat[0])
        raise _UnusableError(f"index {worst} is out of range for {where}")
    indices = array.astype(np.int64)
    return np.where(indices < 0, indices + length, indices)


def _short(value: object) -> str:
    text = repr(value)
    return f"{text[:57]}..." if len(text) > 60 else text
