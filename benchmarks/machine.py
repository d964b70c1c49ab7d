"""The machine that a measurement ran on, and whether it had nothing else to do."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import fastcheck
from fastcheck.devices.cpu import cpu_model, free_memory, usable_cores
from fastcheck.errors import FastcheckError

_PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "torch", "jax", "numdifftools")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

MOST_LOAD = 1.0
"""The load average above which nothing is saved: the processes that want a core, over a minute."""
PATIENCE = 180.0
"""Seconds to wait for it to fall; what a benchmark before this one left of it is gone by then."""


def environment() -> dict[str, Any]:
    """Describe the machine, the versions, and the moment."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "load_average": load_average(),
        "free_memory": free_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "fastcheck": fastcheck.__version__,
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Say in one line where the measurement ran."""
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    load = machine.get("load_average")
    busy = "" if load is None else f"; load average {load:.2f} at the start"
    packages = f"NumPy {machine['numpy']}, llvmlite {machine['llvmlite']}"
    versions = f"Python {machine['python']}, {packages}"
    return f"{machine['cpu']}, {cores}; {versions}{busy}"


def load_average() -> float | None:
    """Return the load average of the last minute; None where the system has none (Windows)."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def settle(
    patience: float = PATIENCE,
    *,
    load: Callable[[], float | None] = load_average,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the machine has nothing else to do.

    Raises
    ------
    FastcheckError
        If it still has after `patience` seconds.
    """
    waited = 0.0
    while (now := load()) is not None and now > MOST_LOAD:
        if waited >= patience:
            raise FastcheckError(
                f"the load average is {now:.2f}: other work wants the cores, and a loop over small "
                "matrices suffers from that far more than anything else. Measure on an idle "
                "machine, or save all the same with --force."
            )
        if waited == 0:
            print(f"The load average is {now:.2f}; waiting for it to fall to {MOST_LOAD:g}.")
        sleep(5.0)
        waited += 5.0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
