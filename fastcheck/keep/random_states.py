"""Snapshots of random number generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from fastcheck.keep.arrays import DeviceContents
from fastcheck.params.places import imported_cupy


class RandomState:
    """The state of one generator, read and written by a pair of functions."""

    def __init__(self, read: Callable[[], Any], write: Callable[[Any], Any]) -> None:
        self._write = write
        self.saved = read()

    def restore(self) -> None:
        self._write(self.saved)


class PutAside:
    """Attributes of an object that others take the place of, until they are put back.

    A generator of cuRAND tells nobody where it is in its sequence, and cannot be set there. So the
    user's is not touched at all: what draws or seeds in the meantime has one of its own.
    """

    def __init__(self, owner: object, make_other: Callable[[], object]) -> None:
        self._owner = vars(owner)
        self._make_other = make_other
        self._other: object = None  # lives as long as its attributes are in use
        self._saved: dict[str, Any] = {}

    def put_aside(self) -> None:
        self._other = self._make_other()
        self._saved = {name: self._owner[name] for name in vars(self._other)}
        self._owner.update(vars(self._other))

    def restore(self) -> None:
        self._owner.update(self._saved)


def snapshots_of_global_random_states() -> list[RandomState | PutAside]:
    """NumPy's legacy generator, behind `np.random.rand`, those of CuPy, and Python's `random`."""
    return [
        RandomState(lambda: np.random.get_state(legacy=False), np.random.set_state),
        RandomState(random.getstate, random.setstate),
        *_snapshots_of_cupy(),
    ]


def _snapshots_of_cupy() -> list[PutAside]:
    """The generators behind `cupy.random.rand`, one a device; CuPy makes new ones when asked."""
    module = sys.modules.get("cupy.random._generator")
    if imported_cupy() is None or not hasattr(module, "_random_states"):
        return []
    return [PutAside(module, lambda: SimpleNamespace(_random_states={}))]


def snapshot_of_generator(value: object) -> RandomState | PutAside | DeviceContents | None:
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
    return _snapshot_of_cupys_generator(value)


def _snapshot_of_cupys_generator(value: Any) -> PutAside | DeviceContents | None:
    if not type(value).__module__.startswith("cupy.random"):
        return None
    state = getattr(getattr(value, "bit_generator", value), "_state", None)
    if state is not None:
        return DeviceContents(state)
    if hasattr(value, "method"):  # a cupy.random.RandomState
        return PutAside(value, lambda: type(value)(method=value.method))
    return None
