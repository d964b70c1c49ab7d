"""Where the arrays live: array namespaces, memory, transfers and kernels of the CPU and of GPUs."""

from fastcheck.devices.base import Device
from fastcheck.devices.memory import budget, default_memory, format_bytes, parse_memory
from fastcheck.devices.resolve import resolve_devices

__all__ = ["Device", "budget", "default_memory", "format_bytes", "parse_memory", "resolve_devices"]
