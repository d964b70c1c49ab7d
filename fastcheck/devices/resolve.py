"""Which device does the work."""

from __future__ import annotations

from fastcheck.devices.base import Device
from fastcheck.devices.cpu import cpu_device
from fastcheck.devices.gpu import gpu_status
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
        If the name is unknown, or the GPU is asked for: the message says what is missing.
    """
    if device in ("auto", "cpu"):
        return cpu_device()
    if device != "gpu":
        raise InputError(f'`device` is {device!r}: use "auto", "cpu" or "gpu".')
    status = gpu_status()
    if status.missing:
        raise InputError(f'`device` is "gpu", but {_inner(status.missing)} Or use device="cpu".')
    name = status.devices[0].name
    raise InputError(
        f'`device` is "gpu", and CuPy finds {name}, but the GPU engine is not part of this version '
        'of fastcheck: use device="cpu".'
    )


def _inner(sentence: str) -> str:
    """A sentence as a clause: CuPy keeps its capital, the article loses it."""
    return "the" + sentence[3:] if sentence.startswith("The ") else sentence
