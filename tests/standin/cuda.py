"""`cupy.cuda`: devices, streams, events, memory pools and the runtime."""

from __future__ import annotations

import time
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import numpy as np

from .machine import OutOfMemoryError, machine


class CUDARuntimeError(RuntimeError):
    """`cupy.cuda.runtime.CUDARuntimeError`."""


class Device:
    """`cupy.cuda.Device`: a context manager that can be entered again and again."""

    def __init__(self, device: Any = None) -> None:
        self.id = machine().current if device is None else int(device)
        if not self.id >= 0:
            raise ValueError("Device ID must be non-negative")
        self._before: list[int] = []

    def __enter__(self) -> Device:
        _existing(self.id)
        self._before.append(machine().current)
        machine().current = self.id
        return self

    def __exit__(self, *exception: Any) -> None:
        machine().current = self._before.pop()

    def __int__(self) -> int:
        return self.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CUDA Device {self.id}>"

    def use(self) -> None:
        _existing(self.id)
        machine().current = self.id

    def synchronize(self) -> None:
        machine().synchronise()

    @property
    def compute_capability(self) -> str:
        return "90"

    @property
    def mem_info(self) -> tuple[int, int]:
        with self:
            return memGetInfo()

    @property
    def attributes(self) -> dict[str, int]:
        return {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 232448, "WarpSize": 32}


class Stream:
    """`cupy.cuda.Stream`. What is sent to it is done at once."""

    null: Stream

    def __init__(
        self,
        null: bool = False,
        non_blocking: bool = False,
        ptds: bool = False,
        priority: Any = None,
    ) -> None:
        self.ptr = 0 if null else id(self)
        self.device_id = machine().current
        self.non_blocking = non_blocking

    def __enter__(self) -> Stream:
        if self.ptr and self.device_id != machine().current:
            raise RuntimeError("This stream was not created on the current device")
        _entered().append(self)
        _set_current(self)
        return self

    def __exit__(self, *exception: Any) -> None:
        _entered().pop()
        inside = [stream for stream in _entered() if stream.device_id == machine().current]
        _set_current(inside[-1] if inside else Stream.null)

    def use(self) -> Stream:
        _set_current(self)  # which the next `with` forgets
        return self

    def synchronize(self) -> None:
        machine().synchronise()

    @property
    def done(self) -> bool:
        return True

    def record(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event: Any) -> None:
        """What was recorded is done already."""

    def launch_host_func(self, callback: Any, arg: Any) -> None:
        callback(arg)


Stream.null = Stream(null=True)


def get_current_stream(device_id: Any = None) -> Stream:
    device = machine().current if device_id is None else device_id
    return vars(machine().threads).get("streams", {}).get(device, Stream.null)


def _set_current(stream: Stream) -> None:
    """Make a stream that of the current device, for the calling thread."""
    vars(machine().threads).setdefault("streams", {})[machine().current] = stream


class Event:
    """`cupy.cuda.Event`: a time."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        self.time: float | None = None
        self._timed = not disable_timing

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        machine().synchronise()

    @property
    def done(self) -> bool:
        return True


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds between two recorded events."""
    if start_event.time is None or end_event.time is None:
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return 1e3 * (end_event.time - start_event.time)


def _entered() -> list[Stream]:
    """The streams whose `with` the calling thread is in."""
    return vars(machine().threads).setdefault("entered", [])


def _existing(number: int) -> None:
    if number >= machine().devices:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")


class MemoryPool:
    """The pool of the current device."""

    def malloc(self, size: int) -> None:
        """Arrays take their memory from the machine, whatever allocator there is."""

    def used_bytes(self) -> int:
        return machine().used[machine().current]

    def total_bytes(self) -> int:
        return machine().held[machine().current]

    def free_bytes(self) -> int:
        return self.total_bytes() - self.used_bytes()

    def n_free_blocks(self) -> int:
        return int(self.free_bytes() > 0)

    def free_all_blocks(self, stream: Any = None) -> None:
        machine().release(machine().current)

    def set_limit(self, size: Any = None, fraction: Any = None) -> None:
        machine().limit = None if not size else int(size)

    def get_limit(self) -> int:
        return machine().limit or 0


class PinnedMemoryPool:
    """Page-locked memory of the host."""

    def free_all_blocks(self) -> None:
        """There is nothing to give back."""

    def n_free_blocks(self) -> int:
        return 0


class PinnedMemoryPointer(np.ndarray[Any, Any]):
    """A buffer, as NumPy's `frombuffer` takes it."""


def alloc_pinned_memory(size: int) -> Any:
    """Return a writable buffer of that many bytes."""
    return memoryview(bytearray(size))


def memGetInfo() -> tuple[int, int]:
    total = machine().total if machine().limit is None else machine().limit
    assert total is not None
    return total - machine().held[machine().current], total


def _runtime() -> ModuleType:
    runtime = ModuleType("cupy.cuda.runtime")
    runtime.CUDARuntimeError = CUDARuntimeError
    runtime.getDeviceCount = lambda: machine().devices
    runtime.memGetInfo = memGetInfo
    runtime.driverGetVersion = lambda: 13000
    runtime.runtimeGetVersion = lambda: 13000
    runtime.getDevice = lambda: machine().current
    runtime.deviceSynchronize = lambda: machine().synchronise()

    def setDevice(number: int) -> None:
        _existing(number)
        machine().current = number

    def getDeviceProperties(number: int) -> dict[str, Any]:
        _existing(number)
        return {
            "name": f"Stand-in {number}".encode(),
            "major": 9,
            "minor": 0,
            "totalGlobalMem": machine().total,
            "multiProcessorCount": 132,
            "sharedMemPerBlock": 49152,
            "sharedMemPerBlockOptin": 232448,
            "sharedMemPerMultiprocessor": 233472,
            "regsPerBlock": 65536,
            "regsPerMultiprocessor": 65536,
            "maxThreadsPerBlock": 1024,
            "maxThreadsPerMultiProcessor": 2048,
            "warpSize": 32,
            "clockRate": 1980000,
            "l2CacheSize": 52428800,
            "memoryClockRate": 2619000,
            "memoryBusWidth": 6144,
        }

    runtime.setDevice = setDevice
    runtime.getDeviceProperties = getDeviceProperties
    return runtime


def make_cuda() -> ModuleType:
    """Return the module `cupy.cuda`."""
    cuda = ModuleType("cupy.cuda")
    memory = ModuleType("cupy.cuda.memory")
    memory.OutOfMemoryError = OutOfMemoryError
    memory.MemoryPool = MemoryPool
    stream = ModuleType("cupy.cuda.stream")
    stream.Stream, stream.Event = Stream, Event
    stream.get_current_stream = get_current_stream
    for name, thing in {
        "Device": Device,
        "Stream": Stream,
        "Event": Event,
        "get_current_stream": get_current_stream,
        "get_elapsed_time": get_elapsed_time,
        "MemoryPool": MemoryPool,
        "using_allocator": lambda allocator=None: nullcontext(),
        "PinnedMemoryPool": PinnedMemoryPool,
        "alloc_pinned_memory": alloc_pinned_memory,
        "is_available": lambda: machine().devices > 0,
        "memory": memory,
        "stream": stream,
        "runtime": _runtime(),
    }.items():
        setattr(cuda, name, thing)
    return cuda
