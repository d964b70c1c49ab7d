"""Snapshots of random number generators."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np


class RandomState:
    """The state of one generator, read and written by a pair of functions."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any]) -> None:
        self._write = write
        self._saved = read()

    def restore(self) -> None:
        self._write(self._saved)


def snapshots_of_global_random_states() -> list[RandomState]:
    """NumPy's legacy generator, behind `np.random.rand`, and that of Python's `random`."""
    return [
        RandomState(lambda: np.random.get_state(legacy=False), np.random.set_state),
        RandomState(random.getstate, random.setstate),
    ]


def snapshot_of_generator(value: object) -> RandomState | None:
    """The state of a generator that somebody holds; None if `value` is no generator."""
    if isinstance(value, np.random.Generator):
        value = value.bit_generator
    if isinstance(value, np.random.BitGenerator):
        bits: Any = value
        return RandomState(lambda: bits.state, lambda state: setattr(bits, "state", state))
    if isinstance(value, np.random.RandomState):
        legacy = value
        return RandomState(lambda: legacy.get_state(legacy=False), legacy.set_state)
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return RandomState(value.getstate, value.setstate)
    return None
