"""Complex arrays as their real and imaginary parts: float64, with one axis more, of length 2.

A loss of complex parameters is a function of twice as many real ones. They are laid out as complex
numbers are in memory, so that both forms can be had of the same memory: an element that is moved
in one form has moved in the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PARTS = ("real", "imag")
"""What the two places along the last axis are called."""


def parts_of(array: NDArray[Any]) -> NDArray[np.float64]:
    """The parts of a complex array: (*shape, 2).

    Those of a complex128 array share its memory, and have its layout (C or Fortran order).
    """
    whole = np.asarray(array, dtype=np.complex128)
    parts: NDArray[np.float64] = whole[..., np.newaxis].view(np.float64)
    return parts


def joined(parts: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The complex array of these parts, over the same memory where the two lie side by side."""
    if parts.strides[-1] != parts.itemsize:
        parts = np.ascontiguousarray(parts)
    whole: NDArray[np.complex128] = parts.view(np.complex128)[..., 0]
    return whole


def element_place(
    shape: tuple[int, ...], number: int, is_complex: bool = False
) -> tuple[tuple[int, ...], str]:
    """The index of a parameter in an array of the user's, and which part of that element it is.

    Parameters
    ----------
    shape
        That of the user's array.
    number
        Which parameter: counted in C order, the two parts of a complex element one after the other.
    is_complex
        Whether the array is complex. The part of a real element is "".
    """
    whole, part = divmod(int(number), len(PARTS)) if is_complex else (int(number), 0)
    index = tuple(int(i) for i in np.unravel_index(whole, shape))
    return index, PARTS[part] if is_complex else ""
