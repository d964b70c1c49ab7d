"""The memory budget: what may be written for ``memory=``, and what holds where it is not."""

from __future__ import annotations

import math
import re
from numbers import Real

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import free_memory
from fastcheck.errors import InputError, InputTypeError

_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{letter: 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)},
    **{f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)},
}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)\s*", re.IGNORECASE)
_REMEDY = 'give bytes, or text such as "64MB" or "1.5 GiB"'

LARGEST_DEFAULT = 2**30
SHARE_OF_FREE = 4
SHARE_OF_FREE_ON_GPU = 2


def parse_memory(memory: int | float | str | None) -> int:
    """Turn a user's memory budget into bytes.

    Parameters
    ----------
    memory
        Bytes as a number; text with a unit, decimal (``"64MB"``, ``"64M"``: 64,000,000 bytes) or
        binary (``"1.5 GiB"``: 1,610,612,736 bytes), in upper or lower case; or None for
        :func:`default_memory`.

    Returns
    -------
    int
        The budget in bytes, at least 1.

    Raises
    ------
    InputTypeError
        If ``memory`` is neither a number, text nor None.
    InputError
        If the text is not an amount of memory, or the amount is not finite and positive.
    """
    if memory is None:
        return default_memory()
    if isinstance(memory, str):
        return _positive(_amount(memory), memory)
    if isinstance(memory, bool) or not isinstance(memory, Real):
        kind = type(memory).__name__
        raise InputTypeError(f"`memory` must be an amount of memory, but is a {kind}: {_REMEDY}.")
    return _positive(float(memory), memory)


def default_memory() -> int:
    """Return the budget without ``memory=``: a quarter of what is free, at most 1 GiB, in bytes."""
    return max(1, min(free_memory() // SHARE_OF_FREE, LARGEST_DEFAULT))


def budget(device: Device, memory: int | None) -> int:
    """Return the bytes that stacks may take on a device: `memory`, or a share of what is free."""
    if memory is not None:
        return memory
    if not device.is_gpu:
        return default_memory()
    return max(1, device.free_memory() // SHARE_OF_FREE_ON_GPU)


def format_bytes(size: float) -> str:
    """Write a number of bytes for a reader, in binary units: ``"1.5 GiB"``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def _amount(text: str) -> float:
    match = _AMOUNT.fullmatch(text)
    if match is None:
        raise InputError(f"`memory` is {text!r}, which is not an amount of memory: {_REMEDY}.")
    number, unit = match.group(1), match.group(2)
    if unit.lower() not in _UNITS:
        raise InputError(
            f"`memory` is {text!r}, and {unit!r} is not a unit of memory: {_REMEDY}; "
            "the units are B, KB, MB, GB, TB and KiB, MiB, GiB, TiB."
        )
    return float(number) * _UNITS[unit.lower()]


def _positive(size: float, given: object) -> int:
    if not math.isfinite(size) or size < 1:
        raise InputError(f"`memory` is {given!r}, but must be at least one byte: {_REMEDY}.")
    return int(size)
