"""A CUDA device through CuPy: its arrays, its memory, and a stream of its own."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices.base import Device


@cache
def gpu_device(number: int) -> Device:
    """Return a CUDA device that `gpu_status` has found.

    Everything runs on a stream that belongs to fastcheck, so that work of the user's own that is
    under way on other streams is neither waited for nor held up.
    """
    cupy = importlib.import_module("cupy")
    device = cupy.cuda.Device(number)
    with device:
        stream = cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def active() -> Iterator[None]:
        with device, stream:
            yield

    def free_memory() -> int:
        with device:
            free, _ = cupy.cuda.runtime.memGetInfo()
            pool = cupy.get_default_memory_pool()
            return int(free) + int(pool.free_bytes())

    def release() -> None:
        with device:
            cupy.get_default_memory_pool().free_all_blocks()

    def to_host(array: Any) -> NDArray[Any]:
        return array.get() if isinstance(array, cupy.ndarray) else np.asarray(array)

    def asarray(array: Any) -> Any:
        return cupy.asarray(array)

    return Device(
        name=f"gpu:{number}",
        xp=cupy,
        free_memory=free_memory,
        asarray=asarray,
        to_host=to_host,
        active=active,
        release=release,
        out_of_memory=(cupy.cuda.memory.OutOfMemoryError, MemoryError),
        number=number,
    )
