"""`import fastcheck` is light: heavy libraries wait until they are needed."""

from __future__ import annotations

import json
import subprocess
import sys

_SCRIPT = """
import json, sys, time
import numpy
before = time.perf_counter()
import fastcheck
seconds = time.perf_counter() - before
heavy = ["numba", "llvmlite", "cupy", "matplotlib", "scipy", "hypothesis", "sklearn"]
print(json.dumps({"seconds": seconds, "heavy": [name for name in heavy if name in sys.modules]}))
"""

_CHECK = """
import sys
import numpy as np, fastcheck
assert fastcheck.check(lambda p: np.sum(p**2), np.ones(3), 2 * np.ones(3))
heavy = ("cupy", "matplotlib", "scipy", "numba", "llvmlite")
print([name for name in heavy if name in sys.modules])
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_no_heavy_library_is_imported() -> None:
    assert json.loads(run(_SCRIPT))["heavy"] == []


def test_it_takes_less_than_half_a_second_beyond_numpy() -> None:
    # The best of three: other work on the machine is not fastcheck's.
    assert min(json.loads(run(_SCRIPT))["seconds"] for _ in range(3)) < 0.5


def test_a_check_needs_no_plotting_gpu_or_scientific_library() -> None:
    assert run(_CHECK) == "[]"


def test_the_public_names_are_what_all_says() -> None:
    import fastcheck

    assert all(hasattr(fastcheck, name) for name in fastcheck.__all__)
    assert {"check", "numerical_gradient", "explain", "Problem", "Report"} <= set(fastcheck.__all__)
