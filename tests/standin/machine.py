"""The pretended machine: its devices, what is allocated on them, and what has been counted."""

from __future__ import annotations

import gc
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_GRAIN = 512  # bytes; CuPy's pool rounds up to it


class OutOfMemoryError(MemoryError):
    """`cupy.cuda.memory.OutOfMemoryError`."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        text = f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes"
        super().__init__(f"{text}, limit set to: {limit:,} bytes)." if limit else f"{text}).")


OutOfMemoryError.__module__ = "cupy.cuda.memory"


class Memory:
    """One allocation; its bytes go back to the pool with it."""

    def __init__(self, owner: Machine, device: int, size: int) -> None:
        self.owner, self.device = owner, device
        size = -(-size // _GRAIN) * _GRAIN
        owner.take(device, size)  # if this raises, there is nothing to give back
        self.size = size

    def __del__(self) -> None:
        if hasattr(self, "size"):
            with self.owner.lock:
                self.owner.used[self.device] -= self.size


@dataclass
class Machine:
    """Some CUDA devices.

    Attributes
    ----------
    devices
        How many there are.
    limit
        How many bytes can be allocated on each; None for any number.
    counts
        How often something happened: ``"synchronisations"``, ``"uploads"``, ``"launches"``,
        ``"releases"`` (of the memory pool).
    used, held
        By device: bytes in arrays, and bytes that the pool has taken from the device.
    on_launch
        Called before every operation on an array, with its name: a test may raise from it.
    on_array
        Called with every array that is made: a test may look at its dtype.
    raw_module
        What ``cupy.RawModule(...)`` calls; None makes it raise `NotImplementedError`.
    """

    devices: int = 1
    limit: int | None = None
    total: int = 64 * 2**30
    counts: Counter[str] = field(default_factory=Counter)
    used: Counter[int] = field(default_factory=Counter)
    held: Counter[int] = field(default_factory=Counter)
    on_launch: Callable[[str], None] | None = None
    on_array: Callable[[Any], None] | None = None
    raw_module: Callable[..., Any] | None = None
    lock: Any = field(default_factory=threading.RLock, repr=False)
    threads: threading.local = field(default_factory=threading.local)

    @property
    def current(self) -> int:
        """The current device, which every thread has its own of."""
        return int(getattr(self.threads, "device", 0))

    @current.setter
    def current(self, device: int) -> None:
        self.threads.device = device

    def take(self, device: int, size: int) -> None:
        """Allocate; what nobody uses any more is given up first, as CuPy's pool does."""
        limit = self.total if self.limit is None else self.limit
        if size <= limit < self.used[device] + size:
            gc.collect()
        if self.used[device] + size > limit:
            raise OutOfMemoryError(size, self.used[device], self.limit or 0)
        with self.lock:
            self.used[device] += size
        self.held[device] = min(max(self.held[device], self.used[device]), limit)

    def release(self, device: int) -> None:
        """Give back what the pool holds but nobody uses."""
        self.counts["releases"] += 1
        self.held[device] = self.used[device]

    def launch(self, name: str) -> None:
        """Note that work is sent to the device."""
        self.counts["launches"] += 1
        if self.on_launch is not None:
            self.on_launch(name)

    def synchronise(self) -> None:
        """Note that the host waits for the device."""
        self.counts["synchronisations"] += 1


_current = Machine()


def machine() -> Machine:
    """Return the machine in use."""
    return _current
