"""A whole process from its start to its end: what the first check of the day costs.

Every run is a new Python that imports, makes the network, checks all gradients, and ends; the one
with the naive loop imports NumPy only. Kernels that fastcheck generates are kept in a folder,
``FASTCHECK_CACHE_DIR``: it is empty for one row and was filled by an earlier process for the next.
"auto" may find that compiling does not pay for one check, while "fused" insists on it. Python's own
cache of compiled modules is warm for all rows, as it is after an installation: it too is a folder
of the run, filled by the first round.
"""

from __future__ import annotations

import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import plots, results
from benchmarks.cases import MNIST
from benchmarks.machine import describe, environment
from benchmarks.options import add_common
from benchmarks.passes import offered
from benchmarks.tables import factor, seconds, spread, table
from benchmarks.timing import Contender, Timing, interleave, ratio
from benchmarks.ways import Skipped
from fastcheck.cli import sizes
from fastcheck.errors import FastcheckError

SUMMARY = "a fresh process with an empty and with a warm kernel cache, imports included"
HEADERS = ("process", "median", "range", "times as long as warm (range)")
CACHE = "FASTCHECK_CACHE_DIR"
WARM = "check, auto, warm cache"
_ROOT = Path(__file__).resolve().parents[1]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--sizes", type=sizes, metavar="N-N-N", help="units of each layer")
    parser.add_argument("--batch", type=int, metavar="M", help="samples")
    add_common(parser, "8-5-3 with 8 samples, 1 round")


def run(arguments: Namespace) -> list[dict[str, Any]]:
    """Measure, print the table, and return its rows as plain data."""
    results.prepare(arguments)
    network, batch, repeats = _job(arguments)
    machine = environment()
    label = f"{'-'.join(map(str, network))}, M = {batch}, dense"
    print(describe(machine), f"\n{label}; {repeats} rounds of fresh processes\n", sep="\n")
    with TemporaryDirectory() as folder:
        contenders, skipped = _contenders(Path(folder), network, batch)
        timings = interleave(contenders, repeats)
    rows = _rows(timings)
    print(table(HEADERS, [_cells(*pair) for pair in zip(timings, rows, strict=True)]))
    print(*skipped, sep="\n")
    if arguments.save:
        settings = {"sizes": network, "batch": batch, "repeats": repeats, "quick": arguments.quick}
        not_run = [{"name": one.name, "not_run": one.why} for one in skipped]
        print(f"\n{results.save('cold', machine, settings, [*rows, *not_run], arguments.out)}")
        print(_plot(machine, label, timings, arguments.out))
    return rows


def _job(arguments: Namespace) -> tuple[tuple[int, ...], int, int]:
    usual = ((8, 5, 3), 8, 1) if arguments.quick else (MNIST, 128, 7)
    given = (arguments.sizes, arguments.batch, arguments.repeats)
    chosen: list[Any] = [u if g is None else g for u, g in zip(usual, given, strict=True)]
    return chosen[0], chosen[1], chosen[2]


def _contenders(
    folder: Path, network: Sequence[int], batch: int
) -> tuple[list[Contender], list[Skipped]]:
    """Return the processes; the warming round fills the warm cache."""
    shape = ["-".join(map(str, network)), str(batch)]
    numbers = count()

    def fresh() -> Path:
        return folder / f"empty{next(numbers)}"

    def warm() -> Path:
        return folder / "warm"

    def process(name: str, job: str, cache: Callable[[], Path]) -> Contender:
        return Contender(name, lambda: _process([job, *shape], cache()))

    chosen = [
        process("check, auto, empty cache", "auto", fresh),
        process(WARM, "auto", warm),
        process("check, replay", "replay", warm),
        process("naive loop", "naive", warm),
        process("import fastcheck", "import", warm),
        process("import numpy", "numpy", warm),
        process("Python alone", "nothing", warm),
    ]
    if offered("fused"):
        chosen[2:2] = [
            process("check, fused, empty cache", "fused", fresh),
            process("check, fused, warm cache", "fused", warm),
        ]
        return chosen, []
    why = "this version of fastcheck does not have it: auto keeps no cache and both rows are alike"
    return chosen, [Skipped("engine fused", why)]


def _process(job: Sequence[str], cache: Path) -> None:
    cache.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", *job],
        cwd=_ROOT,
        env=_environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise FastcheckError(f"the process for {' '.join(job)} failed:\n{done.stderr}")


def _environment(cache: Path) -> dict[str, str]:
    """Return this process's, with the caches beside each other and Python's in use."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, CACHE: str(cache), "PYTHONPYCACHEPREFIX": str(cache.parent / "bytecode")}


def _rows(timings: Sequence[Timing]) -> list[dict[str, Any]]:
    warm = next(timing for timing in timings if timing.name == WARM)
    return [{**one.to_dict(), "times_as_long_as_warm": vars(ratio(one, warm))} for one in timings]


def _cells(timing: Timing, row: dict[str, Any]) -> list[str]:
    longer = row["times_as_long_as_warm"]
    return [
        timing.name,
        seconds(timing.median),
        spread(timing),
        factor(longer),
    ]


def _plot(machine: dict[str, Any], label: str, timings: Sequence[Timing], folder: Path) -> Path:
    drawn = [plots.dot(one, "fastcheck" if "check" in one.name else "loop") for one in timings]
    title = plots.heading("A fresh process, from start to end", machine)
    return plots.dots(folder / "cold.png", title, [plots.Panel(label, drawn)], log=False)
