"""What the first check on the GPU of a fresh process costs, and where the time goes.

CuPy keeps what NVRTC compiled in a folder, ``CUPY_CACHE_DIR``: it is empty for one row, and was
filled by an earlier process for the next.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.tables import seconds, table
from fastcheck.errors import FastcheckError

HEADERS = ("stage of a first check", "empty cache", "warm cache")
EMPTY, WARM = "empty", "warm"
_ROOT = Path(__file__).resolve().parents[2]


def measure(sizes: Sequence[int], batch: int, rounds: int) -> dict[str, Any]:
    """Run processes with an empty and with a warm cache in turns; return what they found.

    Raises
    ------
    FastcheckError
        If a process fails: what it printed.
    """
    found: dict[str, list[dict[str, Any]]] = {EMPTY: [], WARM: []}
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        _process(sizes, batch, Path(folder, WARM))
        for number in range(rounds):
            found[EMPTY].append(_process(sizes, batch, Path(folder, f"{EMPTY}{number}")))
            found[WARM].append(_process(sizes, batch, Path(folder, WARM)))
    return {
        "network": "-".join(map(str, sizes)),
        "batch": batch,
        **{cache: {"medians": medians(runs), "runs": runs} for cache, runs in found.items()},
    }


def medians(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the median seconds of each stage, and of loading the kernels in the first check."""
    by_stage = {
        name: statistics.median(run["seconds"][name] for run in runs) for name in runs[0]["seconds"]
    }
    loading = statistics.median(run["first check"]["seconds"] for run in runs)
    return {**by_stage, "of the first check: kernels compiled or loaded": loading}


def shown(found: dict[str, Any]) -> str:
    """Draw the table, and say what was compiled when."""
    stages = found[EMPTY]["medians"]
    rows = [
        [stage, *(seconds(found[cache]["medians"][stage]) for cache in (EMPTY, WARM))]
        for stage in stages
    ]
    compiled = [
        f"{check}, {cache} cache: {_compiled(found[cache]['runs'][0][check])}"
        for cache in (EMPTY, WARM)
        for check in ("first check", "second check")
    ]
    return "\n".join([table(HEADERS, rows), *compiled])


def _compiled(counts: dict[str, Any]) -> str:
    nvrtc = counts["nvrtc"]
    by_nvrtc = "" if nvrtc is None else f", {nvrtc} compilations by NVRTC"
    return f"{counts['modules']} kernel sources given to CuPy{by_nvrtc}"


def _process(sizes: Sequence[int], batch: int, cache: Path) -> dict[str, Any]:
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ongpu.child", "-".join(map(str, sizes)), str(batch)],
        cwd=_ROOT,
        env=_environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    whole = perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise FastcheckError(f"the process of a first check failed: {last}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found["seconds"]["the whole process"] = whole
    return found


def _environment(cache: Path) -> dict[str, str]:
    """Return this process's, with the caches of both compilers in a folder."""
    return {
        **os.environ,
        "CUPY_CACHE_DIR": str(cache / "cupy"),
        "FASTCHECK_CACHE_DIR": str(cache / "fastcheck"),
    }
