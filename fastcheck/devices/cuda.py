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
from fastcheck.devices.streams import on_stream


@cache
def gpu_device(number: int) -> Device:
    """Return a CUDA device that `gpu_status` has found.

    Everything runs on a stream that belongs to fastcheck, so that work of the user's own that is
    under way on other streams is neither waited for nor held up; and its memory is of a pool of
    its own, so that giving that back leaves the user's pool as it is.
    """
    cupy = importlib.import_module("cupy")
    device = cupy.cuda.Device(number)
    pool = cupy.cuda.MemoryPool()
    out_of_memory = cupy.cuda.memory.OutOfMemoryError
    with device:
        stream = cupy.cuda.Stream(non_blocking=True)

    def allocate(size: int) -> Any:
        try:
            return pool.malloc(size)
        except out_of_memory:
            # The user's pool may keep blocks that nobody uses.
            cupy.get_default_memory_pool().free_all_blocks()
            return pool.malloc(size)

    @contextmanager
    def active() -> Iterator[None]:
        with on_stream(device, stream), cupy.cuda.using_allocator(allocate):
            yield

    def free_memory() -> int:
        with device:
            free, _ = cupy.cuda.runtime.memGetInfo()
            return int(free) + int(pool.free_bytes())

    def release() -> None:
        with device:
            pool.free_all_blocks()

    def to_host(array: Any) -> NDArray[Any]:
        if not isinstance(array, cupy.ndarray):
            return np.asarray(array)
        with active():  # after whatever this stream still has to do with it
            return np.asarray(array.get())

    def asarray(array: Any) -> Any:
        with active():
            return cupy.asarray(array)

    return Device(
        name=f"gpu:{number}",
        xp=cupy,
        free_memory=free_memory,
        asarray=asarray,
        to_host=to_host,
        active=active,
        release=release,
        out_of_memory=(out_of_memory, MemoryError),
        number=number,
    )
