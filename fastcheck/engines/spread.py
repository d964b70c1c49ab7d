"""One engine for several devices: each computes a part of the elements, in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import cache
from typing import Generic, Protocol, TypeVar

from fastcheck.engines.base import Attempt, Differences, Engine, FloatArray, IndexArray
from fastcheck.trace.graph import Node

_PIECE = 2**17
"""Elements that a device is given at a time: Ctrl-C is heard between these."""


class Attempting(Engine, Protocol):
    """An engine that can do a device's part alone, without calling the user's function."""

    def attempt(self, indices: IndexArray, steps: FloatArray, central: bool) -> Attempt:
        """Compute what the device can."""
        ...

    def settled(self, attempt: Attempt, indices: IndexArray) -> Differences:
        """Complete an attempt."""
        ...


E = TypeVar("E", bound=Attempting)


class SpreadEngine(Generic[E]):
    """The same differences, by engines that are alike but for their device.

    Parameters
    ----------
    parts : sequence of Attempting
        One for each device, at least one.
    """

    def __init__(self, parts: Sequence[E]) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        self.name, self.exact = first.name, first.exact
        self.loss, self.magnitude = first.loss, first.magnitude
        self.unit_roundoff = first.unit_roundoff
        self.device = ",".join([first.device, *[part.device[4:] for part in self.parts[1:]]])

    @property
    def careful(self) -> Engine:
        """Itself, or an engine with more digits where its devices have few."""
        careful = self.parts[0].careful
        return self if careful is self.parts[0] else careful

    def kinks_of(self, indices: IndexArray) -> list[Node | None]:
        """Return the operations at which elements met a kink, on whichever device."""
        found = zip(*[part.kinks_of(indices) for part in self.parts], strict=True)
        return [next((node for node in nodes if node is not None), None) for nodes in found]

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements; see `fastcheck.engines.base.Engine`."""
        work = [
            _thread(part.device).submit(
                copy_context().run, part.attempt, indices[piece], steps[piece], central
            )
            for part, piece in self._pieces(len(indices))
        ]
        attempt = Attempt.joined(_together(work))
        # The user's function is called in the user's own thread.
        return self.parts[0].settled(attempt, indices)

    def _pieces(self, count: int) -> list[tuple[E, slice]]:
        """Return who computes which elements, in order."""
        many = len(self.parts)
        edges = [count * number // many for number in range(many + 1)]
        return [
            (part, slice(first, min(first + _PIECE, end)))
            for part, start, end in zip(self.parts, edges[:-1], edges[1:], strict=True)
            for first in range(start, max(end, start + 1), _PIECE)
        ]


def _together(work: list[Future[Attempt]]) -> list[Attempt]:
    """Return all results; whatever happens meanwhile, no thread is left at work behind."""
    try:
        return [future.result() for future in work]
    finally:
        for future in work:
            future.cancel()
        wait(work)


@cache
def _thread(device: str) -> ThreadPoolExecutor:
    """Return the one thread of a device: CuPy keeps handles of libraries for each thread."""
    return ThreadPoolExecutor(1, thread_name_prefix=f"fastcheck {device}")
