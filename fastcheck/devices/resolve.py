"""Which devices do the work."""

from __future__ import annotations

import re

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.devices.cuda import gpu_device
from fastcheck.devices.gpu import visible_gpus
from fastcheck.errors import InputError, oneline

_GPU = re.compile(r"gpu(?::(\d+(?:,\d+)*))?")
_REMEDY = 'use "auto", "cpu", "gpu", or "gpu:0,1" for several'


def resolve_devices(device: str = "auto") -> tuple[Device, ...]:
    """Return the devices of that name.

    Parameters
    ----------
    device
        ``"cpu"``; ``"gpu"``, the first CUDA device; ``"gpu:1"``, or ``"gpu:0,1"`` for several; or
        ``"auto"``, which begins with the CPU.

    Raises
    ------
    InputError
        If the name is unknown, or what it asks for is not there: what is missing, then.
    """
    if device in ("auto", "cpu"):
        return (cpu_device(),)
    match = _GPU.fullmatch(device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f"`device` is {device!r}: {_REMEDY}.")
    numbers = [int(number) for number in (match.group(1) or "0").split(",")]
    if len(set(numbers)) < len(numbers):
        raise InputError(f"`device` is {device!r}, which names a device twice: {_REMEDY}.")
    count, missing = visible_gpus()
    if missing:
        raise InputError(f'`device` is {device!r}, but: {missing} Or use device="cpu".')
    absent = [str(number) for number in numbers if number >= count]
    if absent:
        raise InputError(
            f"`device` is {device!r}, but there is no CUDA device {', '.join(absent)}: there are "
            f"{count}, counted from 0 (see `fastcheck devices`)."
        )
    try:
        return tuple(map(gpu_device, numbers))
    except Exception as fault:
        raise InputError(
            f"`device` is {device!r}, but it cannot be used ({oneline(fault)}): free it, or use "
            'device="cpu".'
        ) from fault
