"""The GPU: what CuPy sees, or the sentence that says what is missing. Nothing here raises."""

from __future__ import annotations

import importlib
import importlib.util
import math
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

_INSTALL = (
    "`pip install 'cupy-cuda12x[ctk]'` (CUDA 12 drivers) or `pip install 'cupy-cuda13x[ctk]'` "
    "(CUDA 13)"
)


_SECONDS_ONCE_LOADED, _SECONDS_TO_LOAD = 0.5, 4.0


@dataclass(frozen=True)
class Gpu:
    """One CUDA device: its name, compute capability such as ``"9.0"``, and memory in bytes."""

    name: str
    capability: str
    free_memory: int
    total_memory: int


@dataclass(frozen=True)
class GpuStatus:
    """The CUDA devices found through CuPy; where there are none, ``missing`` says why."""

    devices: tuple[Gpu, ...] = ()
    missing: str = ""
    cupy_version: str = ""


def seconds_to_start_gpu() -> float:
    """Return what work on the CPU has to take before a GPU is looked for, in seconds.

    CuPy takes a second or so to import, and as long again to make a device ready.
    """
    if sys.modules.get("cupy") is not None:
        return _SECONDS_ONCE_LOADED
    return _SECONDS_TO_LOAD if _is_installed() else math.inf


@cache
def _is_installed() -> bool:
    """Whether there is a CuPy to import; looking through all folders takes a while."""
    return importlib.util.find_spec("cupy") is not None


def gpu_status() -> GpuStatus:
    """Look for CUDA devices through CuPy and ask each for its name and memory; never raise."""
    cupy, missing = _usable_cupy()
    version = "" if cupy is None else str(getattr(cupy, "__version__", "unknown"))
    if missing or cupy is None:
        return GpuStatus(missing=missing, cupy_version=version)
    try:
        return GpuStatus(_devices(cupy.cuda.runtime), cupy_version=version)
    except Exception as error:
        return GpuStatus(missing=_failing(error), cupy_version=version)


def visible_gpus() -> tuple[int, str]:
    """Return how many CUDA devices CuPy sees, and where there is none why; never raise.

    No device is touched: to ask one for its memory would make it ready, which takes a while.
    """
    cupy, missing = _usable_cupy()
    if missing or cupy is None:
        return 0, missing
    return int(cupy.cuda.runtime.getDeviceCount()), ""


def _usable_cupy() -> tuple[Any, str]:
    """Return CuPy, or what keeps it from computing."""
    try:
        cupy = importlib.import_module("cupy")
    except ModuleNotFoundError as error:
        if error.name == "cupy":
            return None, f"CuPy is not installed: {_INSTALL}."
        return None, _broken(error)
    except Exception as error:
        return None, _broken(error)
    try:
        return cupy, _driver_trouble(cupy.cuda.runtime) or _compiler_trouble(cupy)
    except Exception as error:
        return cupy, _failing(error)


def _driver_trouble(runtime: Any) -> str:
    """Say what keeps the driver from offering a device; empty where at least one is there."""
    driver, wanted = int(runtime.driverGetVersion()), int(runtime.runtimeGetVersion())
    if driver == 0:
        return "CuPy is installed, but there is no NVIDIA driver: install one (see `nvidia-smi`)."
    try:
        count = int(runtime.getDeviceCount())
    except Exception as error:
        # The majors decide: within one major, CUDA runs on older drivers.
        if driver // 1000 < wanted // 1000 or "insufficient" in str(error).lower():
            return (
                f"The NVIDIA driver is too old: it supports CUDA {_cuda(driver)}, and CuPy needs "
                f"CUDA {_cuda(wanted)}. Update the driver, or install the CuPy of CUDA "
                f"{driver // 1000} (`pip install 'cupy-cuda{driver // 1000}x[ctk]'`)."
            )
        if "nodevice" in str(error).lower().replace(" ", ""):
            count = 0
        else:
            raise
    if count == 0:
        return "CuPy and an NVIDIA driver are installed, but no CUDA device is visible."
    return ""


def _compiler_trouble(cupy: Any) -> str:
    """Say what keeps CuPy from compiling kernels, which is everything it computes with."""
    compiler = getattr(cupy.cuda, "nvrtc", None)
    try:
        if compiler is not None:
            compiler.getVersion()
    except Exception as error:
        return (
            f"CuPy and an NVIDIA driver are installed, but CUDA's compiler NVRTC is missing "
            f"({_first_line(error)}): install it with CuPy, {_INSTALL}."
        )
    return ""


def _devices(runtime: Any) -> tuple[Gpu, ...]:
    before = int(runtime.getDevice())
    try:
        return tuple(_device(runtime, number) for number in range(int(runtime.getDeviceCount())))
    finally:
        runtime.setDevice(before)


def _device(runtime: Any, number: int) -> Gpu:
    properties = runtime.getDeviceProperties(number)
    name = properties["name"]
    name = name.decode() if isinstance(name, bytes) else str(name)
    capability = f"{properties['major']}.{properties['minor']}"
    try:
        runtime.setDevice(number)
        free, total = runtime.memGetInfo()
    except Exception as error:  # in use by another process alone, say
        return Gpu(f"{name} (cannot be used: {_first_line(error)})", capability, 0, 0)
    return Gpu(name, capability, int(free), int(total))


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _broken(error: Exception) -> str:
    cause = _first_line(error)
    return f"CuPy is installed but cannot be imported ({cause}): reinstall it, {_INSTALL}."


def _failing(error: Exception) -> str:
    return f"CuPy is installed, but asking it for devices failed: {_first_line(error)}."


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =-\t")]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
