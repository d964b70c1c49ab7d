"""One job in a process of its own, for `cold`: ``python -m benchmarks.child JOB SIZES BATCH``.

Only what the job needs is imported, where it is needed: the imports are part of what is measured.
"""

from __future__ import annotations

import sys


def main(job: str, sizes: str, batch: str) -> int:
    """Do "nothing", "numpy" or "import"; or check, by the "naive" loop or by an engine.

    Returns 0 where it went as it should.
    """
    if job == "nothing":
        return 0
    if job == "numpy":
        import numpy

        return int(numpy.float64(0))
    if job == "import":
        import fastcheck

        return int(not fastcheck.__version__)
    return _check(job, tuple(map(int, sizes.split("-"))), int(batch))


def _check(job: str, sizes: tuple[int, ...], batch: int) -> int:
    from benchmarks.plain import Exercise

    exercise = Exercise(sizes, batch)
    if job == "naive":
        return int(not exercise.agrees(exercise.numerical_gradient()))
    import fastcheck

    return int(not fastcheck.check(exercise.loss, exercise.params, exercise.gradients, engine=job))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
