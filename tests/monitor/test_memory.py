"""A thousand checks do not grow the memory."""

import gc
import tracemalloc

import numpy as np
import pytest

from fastcheck import Monitor

MOST = 50_000
"""Bytes: what Python and NumPy come to keep for themselves. A trace kept a check would be more."""


def cubed(params, batch):
    return np.sum(batch @ params["w"] ** 3)


@pytest.mark.parametrize(("mode", "checks"), [("directions", 1000), ("sample", 40), ("full", 40)])
def test_checks_leave_nothing_behind_but_their_record(mode, checks):
    X, w = np.random.default_rng(0).standard_normal((20, 6)), np.linspace(1, 2, 6)
    grads = {"w": 3 * w**2 * X.sum(axis=0)}
    monitor = Monitor(cubed, every=1, mode=mode, sample=3)

    def held():
        # The record is meant to grow, by the numbers in its line.
        monitor.history.clear()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    for _ in range(20):
        monitor({"w": w}, grads, batch=X)
    tracemalloc.start()
    try:
        for _ in range(10):
            monitor({"w": w}, grads, batch=X)
        before = held()
        for _ in range(checks):
            monitor({"w": w}, grads, batch=X)
        assert len(monitor.history) == checks
        assert held() - before < MOST
    finally:
        tracemalloc.stop()
