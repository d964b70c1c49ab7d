"""Where the user's arrays are: in main memory, or on a CUDA device through CuPy.

CuPy is never imported here. Whoever has an array of it has imported it already, and who has none
need not wait for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices.streams import on_stream

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def imported_cupy() -> Any:
    """The CuPy that the user has imported; None without one."""
    cupy = sys.modules.get("cupy")
    return cupy if "ndarray" in getattr(cupy, "__dict__", ()) else None


def is_device_array(value: object) -> bool:
    """Whether `value` is a `cupy.ndarray`, or of a class derived from it."""
    cupy = imported_cupy()
    return cupy is not None and isinstance(value, cupy.ndarray)


def is_array(value: object) -> bool:
    """Whether `value` is an array of NumPy or CuPy."""
    return isinstance(value, np.ndarray) or is_device_array(value)


def on_host(value: Any) -> Any:
    """A device array as a NumPy array of the same layout; anything else as it is."""
    return value.get(order="A") if is_device_array(value) else value


def same_bits(a: Any, b: Any) -> bool:
    """Whether two device arrays of one shape and dtype are equal to the last bit."""
    with a.device:
        if (unsigned := _UNSIGNED.get(a.dtype.itemsize)) is not None:
            return bool((a.view(unsigned) == b.view(unsigned)).all())
        a, b = (sys.modules["cupy"].ascontiguousarray(each).reshape(-1) for each in (a, b))
        return bool((a.view(np.uint8) == b.view(np.uint8)).all())


class Place:
    """A CUDA device and the stream on which the user works there.

    Whatever fastcheck does to arrays that it hands to the user's functions happens on this stream,
    so that it is in order with what these functions do.
    """

    def __init__(self, device: Any) -> None:
        cuda = sys.modules["cupy"].cuda
        self.device = device
        with device:
            self._stream = cuda.get_current_stream()

    @classmethod
    def of(cls, array: Any) -> Place | None:
        """The place of a device array; None for anything else."""
        return cls(array.device) if is_device_array(array) else None

    @classmethod
    def here(cls) -> Place:
        """The calling thread's current device and stream."""
        return cls(sys.modules["cupy"].cuda.Device())

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make this the calling thread's current device and stream."""
        with on_stream(self.device, self._stream):
            yield

    def array(self, values: NDArray[Any]) -> Any:
        """A copy of `values` there, in the same layout (C or Fortran order)."""
        with self.active():
            return sys.modules["cupy"].array(values, order="K")


class Elements:
    """The elements of a device array by their number in C order, like `numpy.ndarray.flat`."""

    def __init__(self, array: Any, place: Place) -> None:
        self._array = array
        self._place = place

    def __getitem__(self, number: int) -> float:
        # An element is a view, and reading it waits for nothing that the loss has not waited for.
        with self._place.active():
            return float(self._array[self._index(number)])

    def __setitem__(self, number: int, value: float) -> None:
        with self._place.active():
            self._array[self._index(number)] = value

    def _index(self, number: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.unravel_index(number, self._array.shape))


def addresses(array: Any) -> NDArray[Any]:
    """A NumPy array over the addresses of an array, to compare with others.

    That of a device array must not be read: its memory is not the host's.
    """
    return np.asarray(_Addresses(array)) if is_device_array(array) else array


class _Addresses:
    """What NumPy asks for to make an array of memory that it does not own."""

    def __init__(self, array: Any) -> None:
        self.__array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            # Memory that is empty has no address on a device.
            "data": (array.data.ptr or 1, False),
            "strides": array.strides,
            "version": 3,
        }
