"""Floating-point errors: ignored in fastcheck's own arithmetic, the user's business in his loss.

A loss may rely on an overflow being raised (``np.seterr(over="raise")`` and an ``except``); called
under other settings it would be another function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_users: ContextVar[dict[str, Any] | None] = ContextVar("users_errstate", default=None)
_SILENT = ("ignore", "warn", "print")


@contextmanager
def own_arithmetic() -> Iterator[None]:
    """Ignore floating-point errors, and remember what the user has set."""
    known = _users.get()
    token = _users.set(dict(np.geterr()) if known is None else known)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        _users.reset(token)


def as_the_user_has_it(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the function under the user's settings, where these do more than print.

    Warnings at moved parameters would tell him nothing.
    """
    found = _users.get() or np.geterr()
    loud: Any = {kind: mode if mode not in _SILENT else "ignore" for kind, mode in found.items()}
    if all(mode == "ignore" for mode in loud.values()):
        return function

    def call(params: Any) -> Any:
        with np.errstate(**loud):
            return function(params)

    return call
