"""What an engine needs to know about the device that it runs on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _nothing() -> None:
    """There is nothing to give back."""


@dataclass(frozen=True, eq=False)
class Device:
    """A place to compute: one array namespace and the way in and out of it.

    Attributes
    ----------
    name
        ``"cpu"``, or ``"gpu:0"`` and so on.
    xp
        The array namespace (``numpy``, or a module with the same functions).
    free_memory
        Bytes that can be allocated right now.
    asarray
        Brings a host array onto the device.
    to_host
        Brings a device array back as a NumPy array.
    active
        Makes it the device of the calling thread, on a stream of its own: every use of `xp` is
        inside ``with device.active():``.
    release
        Gives memory back that is only kept for later use.
    out_of_memory
        What is raised where memory does not suffice.
    number
        Which CUDA device it is; None for the CPU.
    """

    name: str
    xp: Any
    free_memory: Callable[[], int]
    asarray: Callable[[Any], Any]
    to_host: Callable[[Any], NDArray[Any]]
    active: Callable[[], AbstractContextManager[Any]] = nullcontext
    release: Callable[[], None] = _nothing
    out_of_memory: tuple[type[BaseException], ...] = (MemoryError,)
    number: int | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def is_gpu(self) -> bool:
        return self.number is not None


def host_array(array: Any) -> NDArray[Any]:
    """Return ``array`` as a NumPy array, without a copy where it is one already."""
    return np.asarray(array)
