"""The draws of a training step, made again: dropout is checked with the mask of this very step."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from fastcheck.errors import InputError, InputTypeError
from fastcheck.keep.random_states import RandomState, snapshot_of_generator


class Randomness:
    """What a loss draws from, and where that stood when the step began.

    Parameters
    ----------
    rng : generator, module, or list of them
        ``numpy.random.Generator``, ``BitGenerator``, ``RandomState``, ``random.Random``; the module
        ``numpy.random`` (or the text ``"numpy"``) for NumPy's global generator, and ``random`` for
        Python's.
    hold : callable, optional
        The user's own way to put randomness back: called before every forward pass of a check.

    Attributes
    ----------
    generators : tuple
        What `rng` names, for those who keep the states of the user's objects.
    """

    def __init__(self, rng: Any, hold: Any) -> None:
        if hold is not None and not callable(hold):
            raise InputTypeError(
                f"`hold` is a {type(hold).__name__}: give a function without arguments that puts "
                "the randomness of the forward pass back to what it was in this step."
            )
        several = rng if isinstance(rng, list | tuple) else [rng]
        given = [] if rng is None else list(several)
        self._readers = [_reader(one) for one in given]
        self.generators = tuple(g for g in given if not isinstance(g, str | ModuleType))
        self._hold = hold
        self._marks: list[RandomState] = []
        self.mark()

    @property
    def draws(self) -> bool:
        """Whether there are generators that are set back."""
        return bool(self._readers)

    def mark(self) -> None:
        """Remember where the generators stand: a training step begins."""
        self._marks = [read() for read in self._readers]

    @property
    def before(self) -> Callable[[], None] | None:
        """What has to be called before each forward pass; None if there is nothing to hold."""
        return self._rewind if self._readers or self._hold is not None else None

    def makes_the_same_draws(self, forward: Callable[[], object]) -> bool:
        """Whether a forward pass from the start of the step leads to where the generators are now.

        If not, something else has drawn from them in this step, and the mask may be another one.
        """
        now = [read().saved for read in self._readers]
        for mark in self._marks:
            mark.restore()
        forward()
        return all(
            _same(there, read().saved) for there, read in zip(now, self._readers, strict=True)
        )

    def _rewind(self) -> None:
        for mark in self._marks:
            mark.restore()
        if self._hold is not None:
            self._hold()


def _same(one: Any, other: Any) -> bool:
    """Whether two states are equal: nestings of numbers, text and arrays."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return bool(one == other)


def _reader(source: Any) -> Callable[[], RandomState]:
    """Return a function that reads where a generator stands."""
    if source is np.random or (isinstance(source, str) and source == "numpy"):
        return lambda: RandomState(lambda: np.random.get_state(legacy=False), np.random.set_state)
    if source is random or (isinstance(source, str) and source == "random"):
        return lambda: RandomState(random.getstate, random.setstate)
    if not isinstance(snapshot_of_generator(source), RandomState):
        if type(source).__module__.startswith("cupy"):
            raise InputError(
                "`rng` is a generator of CuPy, which cannot be set back: draw the mask on the host "
                "or keep it, and give `hold`, a function that puts it back."
            )
        raise InputTypeError(
            f"`rng` is a {type(source).__name__}: give the numpy.random.Generator, RandomState or "
            "random.Random that the loss draws from, 'numpy' for numpy.random itself, or a list."
        )

    def read() -> RandomState:
        state = snapshot_of_generator(source)
        assert isinstance(state, RandomState)
        return state

    return read
