"""A kernel on a CUDA device: its constants stay there, and a call is one transfer each way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

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
_MOST_COPIES = 2**22
_WANTED = 2**18
"""So many threads fill any device: teams are enlarged until there are that many."""


_resident: WeakSet[CudaKernel] = WeakSet()
"""Kernels that have constants on a device."""


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
        self._code = cuda_source(FRAME, source.text, precision, LANES=self._lanes, THREADS=THREADS)
        self._lasting_on_device: _OnDevice | None = None
        self._most_copies = max(1, min(_MOST_COPIES, memory // self._bytes_a_copy))

    @property
    def _bytes_a_copy(self) -> int:
        """What a copy takes on the device: positions, step and results."""
        return 8 * len(self.source.pins) + 3 * self._real.itemsize + 1

    def run(
        self, positions: Mapping[Pin, Positions], steps: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Return the changes and refusals, with less at a time where the device's memory ends."""
        while True:
            try:
                return super().run(positions, steps)
            except self._device.out_of_memory:
                for kernel in list(_resident):  # those of other tensors too
                    if kernel._device is self._device:
                        kernel.forget()
                self._device.release()
                if self._halve():
                    continue
                if self._most_copies == 1:
                    raise
                self._most_copies //= 2

    def forget(self) -> None:
        """Give up what lies on the device; it is sent again when it is needed."""
        self._lasting_on_device = None

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
        with self._device.active():
            constants = self._on_device(chosen)
            for first in range(0, len(steps), self._most_copies):
                part = slice(first, first + self._most_copies)
                where = {pin: at[part] for pin, at in positions.items()}
                found = self._launched(constants, where, steps[part])
                plus[part], minus[part], refused[part] = found

    def _launched(
        self,
        constants: _OnDevice,
        positions: Mapping[Pin, Positions],
        steps: NDArray[np.float64],
    ) -> tuple[Any, Any, Any]:
        """Compute copies; wait for them, and return the changes at ±h and the refusals."""
        count = len(steps)
        function = cuda_function(self._device, self._code, FUNCTION)
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
        return found

    def _on_device(self, chosen: Chosen) -> _OnDevice:
        """Return the constants on the device; they stay there unless they are a block's alone."""
        if chosen:
            return _OnDevice.sent(self._device, self._constants(chosen), self._real)
        if self._lasting_on_device is None:
            constants = self._constants({})
            self._lasting_on_device = _OnDevice.sent(self._device, constants, self._real)
            _resident.add(self)
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
        with np.errstate(over="ignore"):  # what is infinite in float32 is refused, copy by copy
            rounded = [array.astype(real, copy=False) for array in constants.arrays]
        arrays = [device.asarray(array) for array in rounded]
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
