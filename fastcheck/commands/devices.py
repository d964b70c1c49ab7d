"""``fastcheck devices``: what there is to compute on, or what is missing."""

from __future__ import annotations

import platform
from argparse import Namespace
from importlib import metadata

from fastcheck.commands import output
from fastcheck.commands.terminal import Terminal
from fastcheck.devices import default_memory, format_bytes
from fastcheck.devices.cpu import cpu_model, free_memory, usable_cores
from fastcheck.devices.gpu import Gpu, GpuStatus, gpu_status
from fastcheck.fusion.compiler import cache_folder
from fastcheck.fusion.kernel import threads


def run(arguments: Namespace, terminal: Terminal) -> int:
    """List the CPU and every CUDA device; return 0, also where there is no GPU."""
    for label, text in [*_cpu(), *_gpu(gpu_status())]:
        terminal.line(f"{terminal.bold(label.ljust(5))}{text}")
    return output.PASS


def _cpu() -> list[tuple[str, str]]:
    cores = usable_cores()
    return [
        ("cpu", f"{cpu_model()}, {cores} core{'s' if cores > 1 else ''}"),
        ("", f"{format_bytes(free_memory())} of memory free; a check uses {_budget()} by default"),
        ("", f"Python {platform.python_version()}, {_version('numpy')}, {_version('llvmlite')}"),
        ("", f"{threads()} threads for kernels, which are kept in {_kernels_folder()}"),
    ]


def _kernels_folder() -> str:
    try:
        return str(cache_folder())
    except RuntimeError:  # without a home
        return "memory only"


def _budget() -> str:
    return f"at most {format_bytes(default_memory())}"


def _gpu(status: GpuStatus) -> list[tuple[str, str]]:
    if status.missing:
        return [("gpu", f"none. {status.missing}")]
    lines = [("gpu" if not n else "", _describe(n, gpu)) for n, gpu in enumerate(status.devices)]
    note = 'device="gpu" takes the first, "gpu:0,1" several; "auto" the first for long checks.'
    return [*lines, ("", f"CuPy {status.cupy_version}. {note}")]


def _describe(number: int, gpu: Gpu) -> str:
    memory = f"{format_bytes(gpu.free_memory)} of {format_bytes(gpu.total_memory)} free"
    return f"{number}: {gpu.name}, compute capability {gpu.capability}, {memory}"


def _version(package: str) -> str:
    # From the metadata: importing llvmlite takes a while.
    names = {"numpy": "NumPy", "llvmlite": "llvmlite"}
    try:
        return f"{names[package]} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{names[package]} not installed"
