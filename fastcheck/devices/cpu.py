"""The CPU: NumPy, the cores that this process may use, and the memory that it may still take."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy as np

from fastcheck.devices.base import Device, host_array

_GUESS = 2 * 2**30  # where the system tells nothing at all
_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_MEMBERSHIP = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")


def cpu_device() -> Device:
    """Return the CPU as a device: NumPy arrays, which are on the host already."""
    return Device(
        name="cpu", xp=np, free_memory=free_memory, asarray=np.asarray, to_host=host_array
    )


def free_memory() -> int:
    """Return the bytes this process can still take: free in the machine and within its cgroup."""
    free = [_free_in_machine(), cgroup_headroom()]
    return max(0, min((size for size in free if size is not None), default=_GUESS))


def usable_cores() -> int:
    """Return the number of cores that this process may run on (``taskset``, Docker's cpusets)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def cpu_model() -> str:
    """Return the processor's name as its maker writes it, as far as the system tells."""
    for line in _lines(_CPUINFO):
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return " ".join(value.split())
    return platform.processor() or platform.machine() or "unknown processor"


def cgroup_headroom(membership: Path = _MEMBERSHIP, root: Path = _CGROUPS) -> int | None:
    """Return the bytes left below the tightest memory limit of this process's cgroups.

    A limit may stand on any ancestor of the group, so the path is walked up to the root. Both
    versions of cgroups are read; None means that no limit can be seen.
    """
    left = [
        _left_in_group(folder, *names)
        for folder, names in _groups(membership, root)
        if folder.is_dir()
    ]
    return min((size for size in left if size is not None), default=None)


_V2 = ("memory.max", "memory.current", "inactive_file")
_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _groups(membership: Path, root: Path) -> list[tuple[Path, tuple[str, str, str]]]:
    found: list[tuple[Path, tuple[str, str, str]]] = []
    for line in _lines(membership):
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            base, names = root, _V2
        elif "memory" in controllers.split(","):
            base, names = root / "memory", _V1
        else:
            continue
        here = Path(path.strip("/"))
        found += [(base / part, names) for part in (here, *here.parents)]
    return found


def _left_in_group(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    most, used = _number(folder / limit), _number(folder / usage)
    if most is None or used is None:
        return None
    # The page cache counts as used but is given back on demand.
    cache = _entry(folder / "memory.stat", reclaimable) or 0
    return max(0, most - max(0, used - cache))


def _free_in_machine() -> int | None:
    kibibytes = _entry(_MEMINFO, "MemAvailable:")
    if kibibytes is not None:
        return kibibytes * 1024
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):  # not on Windows; the name not on macOS
            continue
    return None


def _entry(path: Path, key: str) -> int | None:
    for line in _lines(path):
        words = line.split()
        if len(words) > 1 and words[0] == key and words[1].isdigit():
            return int(words[1])
    return None


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max" means no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
