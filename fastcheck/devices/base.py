"""What an engine needs to know about the device that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Device:
    """A place to compute: one array namespace and the way in and out of it.

    Attributes
    ----------
    name
        ``"cpu"`` or ``"gpu"``.
    xp
        The array namespace (``numpy``, or a module with the same functions).
    free_memory
        Bytes that can be allocated right now.
    asarray
        Brings a host array onto the device.
    to_host
        Brings a device array back as a NumPy array.
    """

    name: str
    xp: Any
    free_memory: Callable[[], int]
    asarray: Callable[[Any], Any]
    to_host: Callable[[Any], NDArray[Any]]

    def __str__(self) -> str:
        return self.name


def host_array(array: Any) -> NDArray[Any]:
    """Return ``array`` as a NumPy array, without a copy where it is one already."""
    return np.asarray(array)
