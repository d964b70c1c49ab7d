"""The GPU that a measurement ran on: its name, its versions, and what it can do at most."""

from __future__ import annotations

import subprocess
from importlib import import_module
from typing import Any

from fastcheck.devices.gpu import gpu_status
from fastcheck.errors import FastcheckError

# Fused multiply-adds of each precision that a multiprocessor does in a cycle.
_UNITS = {"8.0": {"float64": 32, "float32": 64}, "9.0": {"float64": 64, "float32": 128}}


def describe_gpu() -> dict[str, Any]:
    """Return the first CUDA device, its driver and CUDA, and CuPy's version, as plain data.

    Raises
    ------
    FastcheckError
        There is none: what is missing.
    """
    status = gpu_status()
    if status.missing:
        raise FastcheckError(status.missing)
    gpu, runtime = status.devices[0], import_module("cupy").cuda.runtime
    properties = runtime.getDeviceProperties(0)
    multiprocessors, clock = int(properties["multiProcessorCount"]), _clock(properties)
    return {
        "gpu": gpu.name,
        "capability": gpu.capability,
        "multiprocessors": multiprocessors,
        "clock": clock,
        "peak": {name: _peak(gpu.capability, multiprocessors, clock, name) for name in _PRECISIONS},
        "gpu_memory": gpu.total_memory,
        "gpu_memory_free": gpu.free_memory,
        "driver": _driver(),
        "cuda_driver": int(runtime.driverGetVersion()),
        "cuda_runtime": int(runtime.runtimeGetVersion()),
        "cupy": status.cupy_version,
    }


_PRECISIONS = ("float64", "float32")


def cuda_version(number: int) -> str:
    """Write CUDA's number of a version, such as 13010, as its maker does: 13.1."""
    return f"{number // 1000}.{number % 1000 // 10}"


def _peak(capability: str, multiprocessors: int, clock: float | None, real: str) -> float | None:
    """Return the most operations a second, a multiply-add counted as two; None where unknown."""
    units = _UNITS.get(capability)
    if units is None or clock is None:
        return None
    return 2.0 * units[real] * multiprocessors * clock


def _clock(properties: Any) -> float | None:
    """Return the clock in hertz: CUDA 13 has it among the attributes only."""
    kilohertz = properties.get("clockRate")
    if not kilohertz:
        kilohertz = import_module("cupy").cuda.Device(0).attributes.get("ClockRate")
    return 1e3 * kilohertz if kilohertz else None


def _driver() -> str:
    """Return the driver's own version; CUDA tells only which CUDA it supports."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = done.stdout.split()
    return lines[0] if lines and not done.returncode else "unknown"
