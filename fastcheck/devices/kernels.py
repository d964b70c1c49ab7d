"""Kernel sources, read as data, and the CUDA modules that are made of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from fastcheck.devices.base import Device

_PACKAGE = Path(__file__).resolve().parent.parent
# Installed inside the package; in a checkout, beside it.
_FOLDERS = (_PACKAGE / "kernels", _PACKAGE.parent / "kernels")
_REALS = {"float64": "double", "float32": "float"}
_GENERATED = "//@ generated"
_MOST_LOADED = 256

_loaded: dict[tuple[Any, ...], Any] = {}
_lock = Lock()


@cache
def kernel_source(name: str) -> str:
    """Return the text of a file of kernels, such as ``"differences.cu"``.

    Raises
    ------
    FileNotFoundError
        The installation is incomplete.
    """
    for folder in _FOLDERS:
        file = folder / name
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(
        f"fastcheck's kernel {name} is missing from {_FOLDERS[0]}: install fastcheck again"
    )


def cuda_source(name: str, generated: str, precision: str, **constants: int) -> str:
    """Return a CUDA source with its preamble and its generated part in place.

    Parameters
    ----------
    name : str
        The file of the frame.
    generated : str
        What takes the place of the line that begins with ``//@ generated``.
    precision : {"float64", "float32"}
        What Real is.
    **constants : int
        What else the frame wants to know, by name.
    """
    lines = kernel_source(name).splitlines()
    lines = [generated if line.startswith(_GENERATED) else line for line in lines]
    defined = [f"#define {constant} {value}" for constant, value in constants.items()]
    return "\n".join([f"typedef {_REALS[precision]} Real;", *defined, *lines]) + "\n"


def cuda_function(device: Device, source: str, name: str) -> Any:
    """Return a kernel of a CUDA source, compiled for a device; each once in a process.

    CuPy keeps what it has compiled on disk, for the next process.
    """
    key = (device.number, source, name)
    with _lock:
        function = _loaded.get(key)
        if function is None:
            if len(_loaded) >= _MOST_LOADED:
                del _loaded[next(iter(_loaded))]  # the oldest; who still runs it keeps it
            with device.active():
                module = device.xp.RawModule(code=source, options=("--std=c++17",))
                function = _loaded[key] = module.get_function(name)
        return function


def is_loaded(device: Device, source: str, name: str) -> bool:
    """Whether a kernel has been compiled in this process."""
    return (device.number, source, name) in _loaded
