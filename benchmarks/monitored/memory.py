"""What checks leave behind in memory, beside their records."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

from fastcheck import Monitor
from fastcheck.problems import mlp, training

SIZES = (784, 10, 10)
WARM = 20
A_RECORD = 2048
"""Bytes that a check may leave: its record, which is meant to stay."""


def measure(mode: str, checks: int, batch: int = 32) -> dict[str, Any]:
    """Return the bytes that so many checks leave, as Python and NumPy allocate them."""
    params, samples = mlp.init(SIZES), mlp.make_batch(SIZES, batch)
    grads = mlp.gradients(params, *samples)
    monitor = Monitor(training.loss, every=1, mode=mode)
    for _ in range(WARM):
        monitor(params, grads, batch=samples)
    tracemalloc.start()
    try:
        monitor(params, grads, batch=samples)
        before = _held()
        for _ in range(checks):
            monitor(params, grads, batch=samples)
        grown = _held() - before
    finally:
        tracemalloc.stop()
    return {"mode": mode, "checks": checks, "grown": grown, "each": grown / checks}


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
