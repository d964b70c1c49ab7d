"""Work that is not timed, spread over processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any


@contextmanager
def workers(processes: int) -> Iterator[Any]:
    """Yield a `map` that spreads its work over processes."""
    if processes == 1:
        yield map
        return
    # A forked process could inherit locks that threads of this one hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield pool.map
