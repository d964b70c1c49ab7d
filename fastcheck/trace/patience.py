"""How long may be spent on what is good to know, but not needed for a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import thread_time

_PATIENCE: ContextVar[Patience | None] = ContextVar("patience", default=None)


class OutOfTimeError(Exception):
    """More time was spent than is worth it."""


class Patience:
    """Seconds that may be spent: those of this thread alone, however busy the machine is.

    Parameters
    ----------
    seconds : float

    Attributes
    ----------
    lost : bool
        Whether something has been given up for it.
    """

    def __init__(self, seconds: float = math.inf) -> None:
        self._until = thread_time() + seconds
        self.lost = False

    def ask(self) -> None:
        """Raise OutOfTimeError if the time is over."""
        if thread_time() > self._until:
            self.lost = True
            raise OutOfTimeError


@contextmanager
def at_most(seconds: float) -> Iterator[Patience]:
    """Give up, at the next backward pass, what is not found out in so many seconds."""
    patience = Patience(seconds)
    token = _PATIENCE.set(patience)
    try:
        yield patience
    finally:
        _PATIENCE.reset(token)


def ask() -> None:
    """Raise OutOfTimeError if there was a limit, and it has been reached."""
    patience = _PATIENCE.get()
    if patience is not None:
        patience.ask()


def is_lost() -> bool:
    """Whether something has been given up because the time was over."""
    patience = _PATIENCE.get()
    return patience is not None and patience.lost
