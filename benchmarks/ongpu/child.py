"""A first check on the GPU, in stages: ``python -m benchmarks.ongpu.child SIZES BATCH``.

Everything is imported where its time is taken; the stages are printed as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any


def stages(sizes: tuple[int, ...], batch: int) -> dict[str, Any]:
    """Import, make the device ready, and check twice; return the seconds of each.

    Raises
    ------
    FastcheckError
        If a check of the right gradient does not pass, or did not run on the GPU.
    """
    seconds: dict[str, float] = {}

    def taken(name: str, work: Callable[[], Any]) -> Any:
        start = perf_counter()
        outcome = work()
        seconds[name] = perf_counter() - start
        return outcome

    taken("import fastcheck", lambda: import_module("fastcheck"))
    exercise = taken("make the network", lambda: _exercise(sizes, batch))
    taken("import CuPy", lambda: import_module("cupy"))
    taken("make the device ready", _touch)
    found: dict[str, Any] = {"seconds": seconds}
    from benchmarks.ongpu.launches import compilations

    for name in ("first check", "second check"):
        with compilations() as compiled:
            taken(name, lambda: _check(exercise))
        found[name] = vars(compiled)
    return found


def _exercise(sizes: tuple[int, ...], batch: int) -> Any:
    from benchmarks.plain import Exercise

    return Exercise(sizes, batch)


def _touch() -> None:
    import_module("cupy").zeros(1).get()


def _check(exercise: Any) -> None:
    import fastcheck

    report = fastcheck.check(exercise.loss, exercise.params, exercise.gradients, device="gpu")
    places = {tensor.device for tensor in report.tensors.values()}
    if not report or "cpu" in places:
        raise fastcheck.FastcheckError(f"on {' and '.join(sorted(places))}:\n{report}")


if __name__ == "__main__":
    print(json.dumps(stages(tuple(map(int, sys.argv[1].split("-"))), int(sys.argv[2]))))
