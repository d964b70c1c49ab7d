"""What every benchmark needs: fair timing, statistics, the machine's description, tables, results.

Contenders are interleaved: every round runs each of them once, the order turning from round to
round, so that a machine that slows down or warms up does so for all of them alike.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from fastcheck.devices.cpu import cpu_model, free_memory, usable_cores

RESULTS = Path(__file__).resolve().parent / "results"
SCHEMA = 1
_PACKAGES = ("numpy", "numba", "fastcheck")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Contender:
    """A way to do the work, by name. ``run()`` does it once and returns the outcome."""

    name: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Timing:
    """How long a contender took.

    Attributes
    ----------
    name
        The contender's.
    first
        Seconds of its first run, which warms caches up and counts for nothing else.
    seconds
        Seconds of each round after it.
    outcome
        What the first run returned.
    """

    name: str
    first: float
    seconds: tuple[float, ...]
    outcome: Any = None

    @property
    def median(self) -> float:
        """The median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        """The fastest round, in seconds."""
        return min(self.seconds)

    @property
    def high(self) -> float:
        """The slowest round, in seconds."""
        return max(self.seconds)

    def to_dict(self) -> dict[str, Any]:
        """Return the times as plain data, without the outcome."""
        return {
            "name": self.name,
            "first": self.first,
            "seconds": list(self.seconds),
            "median": self.median,
            "low": self.low,
            "high": self.high,
        }


def interleave(
    contenders: Sequence[Contender],
    repeats: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time the contenders in turns.

    Parameters
    ----------
    contenders
        What to run; the order of the answer.
    repeats
        Rounds after the warming one, at least 1.
    clock
        Returns seconds.
    """
    first = {one.name: _timed(one, clock) for one in contenders}
    seconds: dict[str, list[float]] = {one.name: [] for one in contenders}
    for turn in range(repeats):
        start = turn % len(contenders)
        for one in (*contenders[start:], *contenders[:start]):
            seconds[one.name].append(_timed(one, clock)[0])
    return [
        Timing(name, took, tuple(seconds[name]), outcome) for name, (took, outcome) in first.items()
    ]


def _timed(contender: Contender, clock: Callable[[], float]) -> tuple[float, Any]:
    start = clock()
    outcome = contender.run()
    return clock() - start, outcome


@dataclass(frozen=True)
class Ratio:
    """How many times faster one contender is than another, round by round."""

    median: float
    low: float
    high: float


def ratio(slow: Timing, fast: Timing) -> Ratio:
    """Compare two contenders within each round: what disturbed the machine disturbed both."""
    rounds = [s / f for s, f in zip(slow.seconds, fast.seconds, strict=True)]
    return Ratio(statistics.median(rounds), min(rounds), max(rounds))


def environment() -> dict[str, Any]:
    """Describe the machine, the versions, and the moment."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "free_memory": free_memory(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: _version(package) for package in _PACKAGES},
        "threads": {name: os.environ[name] for name in _THREADS if name in os.environ},
    }


def describe(machine: Mapping[str, Any]) -> str:
    """Say in one line where the measurement ran."""
    cores = f"{machine['cores']} core{'s' if machine['cores'] != 1 else ''}"
    versions = f"Python {machine['python']}, NumPy {machine['numpy']}, Numba {machine['numba']}"
    return f"{machine['cpu']}, {cores}; {versions}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Draw a table: the first column to the left, the others to the right."""
    lines = [list(headers), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    drawn = ["  ".join(_cells(line, widths)).rstrip() for line in lines]
    return "\n".join([drawn[0], "─" * max(map(len, drawn)), *drawn[1:]])


def _cells(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *rest = (
        cell.ljust(width) if column == 0 else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(line, widths, strict=True))
    )
    return [first, *rest]


def seconds(value: float) -> str:
    """Write a time for a table: three digits, in seconds or milliseconds."""
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def spread(timing: Timing) -> str:
    """Write the range of the rounds for a table."""
    return f"{seconds(timing.low)} – {seconds(timing.high)}"


def save(
    name: str,
    machine: Mapping[str, Any],
    settings: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    folder: Path = RESULTS,
) -> Path:
    """Write the results as ``NAME.json`` and return the file."""
    payload = {
        "schema": SCHEMA,
        "benchmark": name,
        "environment": dict(machine),
        "settings": dict(settings),
        "results": [dict(result) for result in results],
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(payload, indent=2) + "\n", encoding="utf-8")
    return file
