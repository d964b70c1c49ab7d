"""Snapshots of the contents of arrays."""

from __future__ import annotations

from operator import is_
from typing import Any

import numpy as np

from fastcheck.params.places import is_device_array, same_bits

_Array = np.ndarray[Any, Any]
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class ArrayContents:
    """The bits, the shape and the write flag of one array."""

    def __init__(self, array: _Array) -> None:
        self._array = array
        # A view: it keeps the shape, the dtype and the permission to write that it starts with.
        self._view = array.view(np.ndarray)
        self._saved = self._view.copy(order="K")
        self._writeable = array.flags.writeable

    def changed(self) -> bool:
        return not _same_bits(self._view, self._saved)

    def restore(self) -> None:
        if self._array.shape != self._saved.shape:
            self._array.shape = self._saved.shape
        if self.changed():
            self._write()
        if self._array.flags.writeable != self._writeable:
            self._array.flags.writeable = self._writeable

    def _write(self) -> None:
        target = self._view
        if not target.flags.writeable:
            # It was read-only on entry, and somebody lifted that to write to it.
            self._array.flags.writeable = True
            target = self._array.view(np.ndarray)
        target[...] = self._saved


class DeviceContents:
    """The bits and the shape of one CuPy array, kept and compared on its device."""

    def __init__(self, array: Any) -> None:
        self._array = array
        with array.device:
            self._view = array.view()
            self._saved = array.copy(order="K")

    def changed(self) -> bool:
        return not same_bits(self._view, self._saved)

    def restore(self) -> None:
        if self._array.shape != self._saved.shape:
            self._array.shape = self._saved.shape
        if self.changed():
            with self._array.device:
                self._view[...] = self._saved


Contents = ArrayContents | DeviceContents


def contents_of(array: Any) -> Contents:
    """A snapshot of the contents of an array of NumPy or CuPy."""
    return DeviceContents(array) if is_device_array(array) else ArrayContents(array)


def snapshots_of_array(array: Any) -> list[Contents]:
    """The array's contents; before them, for a read-only view, what it views: it may be written."""
    source = _writeable_source(array)
    return [contents_of(each) for each in (source, array) if each is not None]


def writeable_part(array: Any) -> Any:
    """The array, or what a read-only view views; None where nobody can write to either."""
    if is_device_array(array):
        return array
    return array if array.flags.writeable else _writeable_source(array)


def _writeable_source(array: _Array) -> _Array | None:
    base: Any = array
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        base = base.base
    return base if isinstance(base, np.ndarray) and base is not array else None


def _same_bits(a: _Array, b: _Array) -> bool:
    """Equality that tells 0.0 from -0.0, and one NaN from another."""
    if a.dtype.hasobject:
        return all(map(is_, a.flat, b.flat))
    unsigned = _UNSIGNED.get(a.dtype.itemsize)
    if unsigned is None:
        return a.tobytes() == b.tobytes()
    return bool((a.view(unsigned) == b.view(unsigned)).all())
