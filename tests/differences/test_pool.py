"""Buffers are used again when nobody views them, and given back when they would take too much."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.differences import pool as pools
from fastcheck.differences.pool import Pool

SIZE = 10_000

pytestmark = pytest.mark.skipif(pools._UNUSED is None, reason="references cannot be counted here")


def test_a_buffer_is_used_again_once_nobody_views_it() -> None:
    pool = Pool()
    first = pool.empty((100, 100))
    address = first.ctypes.data
    second = pool.empty((SIZE,))
    assert not np.may_share_memory(first, second)
    del first
    assert pool.empty((10, 1000)).ctypes.data == address


def test_no_more_is_held_than_allowed_but_what_is_in_use() -> None:
    pool = Pool()
    pool.most = 10 * 8 * SIZE
    used = pool.empty((SIZE,))
    used[:] = 7.0
    for size in range(SIZE, 2 * SIZE, 50):  # layers of many widths
        pool.empty((size,))
        held = sum(each.nbytes for buffers in pool._buffers.values() for each in buffers)
        assert held <= pool.most
    assert (used == 7.0).all()
    assert len([pool.empty((SIZE,)) for _ in range(20)]) == 20  # what is needed is had


def test_a_cleared_pool_holds_nothing() -> None:
    pool = Pool()
    pool.empty((SIZE,))
    pool.clear()
    assert pool._held == 0
    assert not pool._buffers
