"""Python's garbage collector waits while long graphs are built.

Graphs have no cycles, and every few thousand new nodes the collector would look at all the old ones
again: with tens of thousands it takes as long as the work.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pauses:
    """How many pauses there are at the moment, in all threads, and what was before the first."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.number = 0
        self.enabled = True


_pauses = _Pauses()
if hasattr(os, "register_at_fork"):  # another thread may have been inside when the process forked
    os.register_at_fork(after_in_child=lambda: _after_fork())


def _after_fork() -> None:
    _pauses.lock = threading.Lock()
    if _pauses.number and _pauses.enabled:
        gc.enable()
    _pauses.number = 0


@contextmanager
def without_collecting() -> Iterator[None]:
    """Pause the collector; no code of the user's is to run in the meantime."""
    with _pauses.lock:
        if not _pauses.number:
            _pauses.enabled = gc.isenabled()
            gc.disable()
        _pauses.number += 1
    try:
        yield
    finally:
        with _pauses.lock:
            _pauses.number -= 1
            if not _pauses.number and _pauses.enabled:
                gc.enable()
