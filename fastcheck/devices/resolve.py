"""Which device does the work."""

from __future__ import annotations

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.errors import InputError

NAMES = ("auto", "cpu", "gpu")


def resolve_device(device: str = "auto") -> Device:
    """Return the device of that name.

    Parameters
    ----------
    device
        ``"cpu"``; ``"gpu"``; or ``"auto"``, which is the CPU in this version.

    Raises
    ------
    InputError
        If the name is unknown, or the GPU is asked for, which this version cannot use.
    """
    if device in ("auto", "cpu"):
        return cpu_device()
    if device != "gpu":
        raise InputError(f'`device` is {device!r}: use "auto", "cpu" or "gpu".')
    raise InputError(
        '`device` is "gpu", but the GPU engine is not part of this version of fastcheck: use '
        'device="cpu".'
    )
