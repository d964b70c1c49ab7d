"""A kernel on a CUDA device: its constants stay there, and a call is one transfer each way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastcheck.devices.base import Device
from fastcheck.devices.kernels import cuda_function, cuda_source, is_loaded
from fastcheck.fusion.blockwise import BlockwiseKernel, Chosen, Constants, Positions
from fastcheck.fusion.code import FUNCTION
from fastcheck.fusion.dims import Pin
from fastcheck.fusion.source import Source

FRAME = "differences.cu"
THREADS = 256
"""Threads in a block, and the largest team."""
_WANTED = 2**18
"""So many threads fill any device: teams are enlarged until there are that many."""


class CudaKernel(BlockwiseKernel):
    """The differences of one group of elements, on a CUDA device.

    Parameters
    ----------
    source : Source
        Printed as CUDA.
    memory : int
        Bytes for the hoisted constants at a time, which are computed on the host.
    device : Device
    precision : {"float64", "float32"}
        The arithmetic of the kernel.
    """

    def __init__(self, source: Source, memory: int, device: Device, precision: str) -> None:
        super().__init__(source, memory)
        self._device = device
        self._real = np.dtype(precision)
        self._lanes = source.schedule.width
        self._code = cuda_source(FRAME, source.text, precision, self._lanes)
        self._lasting_on_device: _OnDevice | None = None

    @property
    def compiled(self) -> bool:
        """Whether this process has compiled it for the device."""
        return is_loaded(self._device, self._code, FUNCTION)

    def _run_block(
        self,
        chosen: Chosen,
        positions: Mapping[Pin, Positions],
        steps: NDArray[np.float64],
        plus: NDArray[np.float64],
        minus: NDArray[np.float64],
        refused: NDArray[np.uint8],
    ) -> None:
        count = len(steps)
        if not count:
            return
        with self._device.active():
            function = cuda_function(self._device, self._code, FUNCTION)
            constants = self._on_device(chosen)
            where, h, sent = self._send(positions, steps)
            result = self._device.xp.empty(count * (2 * self._real.itemsize + 1), dtype=np.uint8)
            parts = self._parts(count)
            teams = THREADS // (parts * self._lanes)
            arguments = (
                constants.arrays,
                constants.strides,
                where,
                constants.lengths,
                constants.blocks,
                h,
                *_split(result, count, self._real),
                np.int64(0),
                np.int64(count),
                np.int64(parts),
            )
            function((-(-count // teams),), (THREADS,), arguments)
            found = _split(self._device.to_host(result), count, self._real)
            del sent  # the device has read it
        plus[:], minus[:], refused[:] = found

    def _on_device(self, chosen: Chosen) -> _OnDevice:
        """Return the constants on the device; they stay there unless they are a block's alone."""
        if chosen:
            return _OnDevice.sent(self._device, self._constants(chosen), self._real)
        if self._lasting_on_device is None:
            constants = self._constants({})
            self._lasting_on_device = _OnDevice.sent(self._device, constants, self._real)
            self._arranged.clear()  # the host's copies
        return self._lasting_on_device

    def _send(
        self, positions: Mapping[Pin, Positions], steps: NDArray[np.float64]
    ) -> tuple[Any, Any, Any]:
        """Send positions and steps in one transfer; return their places, and what holds them."""
        count, pins = len(steps), self.source.pins
        table = 8 * max(len(pins), 1)
        ends = [table + 8 * count * number for number in range(len(pins) + 1)]
        host = np.zeros(ends[-1] + count * self._real.itemsize, dtype=np.uint8)
        sent = self._device.xp.empty(len(host), dtype=np.uint8)
        address = sent.data.ptr
        for number, pin in enumerate(pins):
            host[: 8 * len(pins)].view(np.uint64)[number] = address + ends[number]
            host[ends[number] : ends[number + 1]].view(np.int64)[:] = positions[pin]
        host[ends[-1] :].view(self._real)[:] = steps
        sent.set(host)
        return sent[:table].view(np.uint64), sent[ends[-1] :].view(self._real), sent

    def _parts(self, count: int) -> int:
        """Return how many rows a team has: a power of two, enough of them to fill the device."""
        vector = self.source.schedule.vector
        if vector is None:
            return 1
        most = min(self.source.schedule.trips(vector), THREADS // self._lanes)
        parts = 1
        while 2 * parts <= most and count * parts * self._lanes < _WANTED:
            parts *= 2
        return parts


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """Constants in a device's memory: tables of pointers, and the arrays that they point to."""

    arrays: Any
    strides: Any
    lengths: Any
    blocks: Any
    held: tuple[Any, ...]

    @classmethod
    def sent(cls, device: Device, constants: Constants, real: np.dtype[Any]) -> _OnDevice:
        arrays = [device.asarray(array.astype(real, copy=False)) for array in constants.arrays]
        blocks = [
            device.asarray(constants.starts),
            device.asarray(constants.offsets),
            device.asarray(constants.weight.astype(real, copy=False)),
        ]
        return cls(
            arrays=_table(device, arrays),
            strides=device.asarray(constants.strides),
            lengths=device.asarray(constants.lengths),
            blocks=_table(device, blocks),
            held=(*arrays, *blocks),
        )


def _table(device: Device, arrays: list[Any]) -> Any:
    addresses = [array.data.ptr for array in arrays] or [0]
    return device.asarray(np.array(addresses, dtype=np.uint64))


def _split(buffer: Any, count: int, real: np.dtype[Any]) -> tuple[Any, Any, Any]:
    """Return the changes at +h and −h and the refusals, which lie one after the other."""
    size = count * real.itemsize
    return buffer[:size].view(real), buffer[size : 2 * size].view(real), buffer[2 * size :]
