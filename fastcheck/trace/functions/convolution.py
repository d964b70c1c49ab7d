"""One-dimensional convolutions: sliding windows times the shorter sequence."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.trace.functions.common import lift, tape_of
from fastcheck.trace.functions.contraction import contract
from fastcheck.trace.registry import traced
from fastcheck.trace.traced import Traced

_MODES = ("valid", "same", "full")  # also by their numbers


@traced(np.convolve)
def convolve(a: Any, v: Any, mode: Any = "full") -> Any:
    tape = tape_of(a, v)
    a, v = np.atleast_1d(lift(a, tape)), np.atleast_1d(lift(v, tape))
    if len(v) > len(a):
        a, v = v, a
    return correlate(a, v[::-1], mode)


@traced(np.correlate)
def correlate(a: Any, v: Any, mode: Any = "valid") -> Any:
    tape = tape_of(a, v)
    a, v = lift(a, tape), lift(v, tape)
    if len(v) > len(a):
        return _slid(v, a, mode)[::-1]
    return _slid(a, v, mode)


def _slid(a: Traced, v: Traced, mode: Any) -> Any:
    """Slide `v` along `a`, which is at least as long."""
    mode = mode if isinstance(mode, str) else _MODES[mode]
    value = np.correlate(a.value, v.value, mode)
    size = len(v)
    before = {"valid": 0, "same": size // 2, "full": size - 1}[mode]
    after = len(value) - (len(a) - size + 1) - before
    padded = np.pad(a, (before, after)) if before or after else a
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    return contract(value, windows, v, (0, 1), (1,), (0,))
