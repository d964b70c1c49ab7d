"""Making a device and a stream current for a while, and leaving what was current before."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_stream(device: Any, stream: Any) -> Iterator[None]:
    """Make a CuPy device and stream the calling thread's current ones.

    Leaving CuPy's ``with stream:`` makes the stream current that the enclosing ``with`` had; one
    that the user has set by ``stream.use()`` would be lost, so it is set again.
    """
    with device:
        before = sys.modules["cupy"].cuda.get_current_stream()
        try:
            with stream:
                yield
        finally:
            before.use()
