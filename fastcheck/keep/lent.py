"""Large arrays lent instead of copied: read-only for as long as others use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LARGE = 2**16
"""Bytes from which on copying and comparing an array takes longer than lending it."""


class Lent:
    """An array that must not be written to until it is given back."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def put_aside(self) -> None:
        self._array.flags.writeable = False

    def restore(self) -> None:
        self._array.flags.writeable = True


def lendable(reached: Sequence[Any], parameters: Sequence[Any]) -> tuple[list[Lent], list[Any]]:
    """Return the arrays that can be lent, and the others, whose contents have to be copied.

    An array can be lent if it can be made writeable again, and if whatever views the same memory
    is lent with it: small views of a large array go with it, and what may share memory with the
    parameters stays.
    """
    owners = {
        id(array): array for array in reached if _may_change_back(array) and array.base is None
    }
    large = {name for name, array in owners.items() if array.nbytes >= _LARGE}
    lent: list[Any] = []
    others: list[Any] = []
    for array in reached:
        base = array if getattr(array, "base", None) is None else array.base
        suits = _may_change_back(array) and (
            id(base) in large or (id(base) not in owners and array.nbytes >= _LARGE)
        )
        shared = suits and any(np.may_share_memory(array, one) for one in parameters)
        (lent if suits and not shared else others).append(array)
    # A view can be made writeable again only after its base.
    lent.sort(key=lambda array: array.base is not None)
    return [Lent(array) for array in lent], others


def _may_change_back(array: Any) -> bool:
    if type(array) is not np.ndarray or not array.flags.writeable:
        return False
    base = array.base
    return base is None or (type(base) is np.ndarray and base.flags.writeable)
