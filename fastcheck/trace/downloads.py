"""Device arrays in a trace: the graph lives on the host, and takes them as constants.

A loss that mixes CuPy data with its parameters hands CuPy arrays to the rules. Each of them is
downloaded once a trace, however often it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fastcheck.params.places import imported_cupy, is_device_array, on_host, same_bits


@dataclass
class _Download:
    original: Any
    """The device array, which keeps its id from being used again."""
    copy: Any
    """Its contents then, on its device; None if there was no memory for it."""
    host: NDArray[Any]

    def is_current(self) -> bool:
        """Whether the array still holds what was downloaded: the loss may write into it."""
        now, then = self.original, self.copy
        alike = then is not None and (now.shape, now.dtype) == (then.shape, then.dtype)
        return alike and same_bits(now, then)


class Downloads:
    """The device arrays that one trace has met."""

    def __init__(self) -> None:
        self._known: dict[int, _Download] = {}
        self._hosts: dict[int, NDArray[Any]] = {}

    def of(self, array: Any) -> NDArray[Any]:
        """Return a device array as a NumPy array, which nobody may write to."""
        known = self._known.get(id(array))
        if known is not None and known.is_current():
            return known.host
        host: NDArray[Any] = on_host(array)
        # What is written to it would be lost: the user's array is on the device.
        host.flags.writeable = False
        self._known[id(array)] = _Download(array, _copy(array), host)
        self._hosts[id(host)] = host
        return host

    def __bool__(self) -> bool:
        """Whether any was met."""
        return bool(self._known)

    def made(self, host: NDArray[Any]) -> bool:
        """Whether `host` is a download of this trace."""
        return self._hosts.get(id(host)) is host

    def hosted(self, value: Any) -> Any:
        """Replace the device arrays in nested lists, tuples and dicts by downloads."""
        return self._hosted(value) if imported_cupy() is not None else value

    def _hosted(self, value: Any) -> Any:
        if is_device_array(value):
            return self.of(value)
        if type(value) is dict:
            return {key: self._hosted(part) for key, part in value.items()}
        if type(value) in (list, tuple):
            parts = [self._hosted(part) for part in value]
            changed = any(new is not old for new, old in zip(parts, value, strict=True))
            return type(value)(parts) if changed else value
        return value


def _copy(array: Any) -> Any:
    try:
        with array.device:
            return array.copy(order="K")
    except MemoryError:
        return None
