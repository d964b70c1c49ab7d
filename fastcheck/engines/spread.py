"""One engine for several devices: each computes a part of the elements, in a thread of its own."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import pairwise
from typing import Generic, TypeVar

import numpy as np

from fastcheck.engines.base import Differences, Engine, FloatArray, IndexArray

E = TypeVar("E", bound=Engine)


class SpreadEngine(Generic[E]):
    """The same differences, by engines that are alike but for their device.

    Parameters
    ----------
    parts : sequence of Engine
        One for each device, at least one.
    """

    def __init__(self, parts: Sequence[E]) -> None:
        self.parts = tuple(parts)
        first = self.parts[0]
        self.name, self.exact = first.name, first.exact
        self.loss, self.magnitude = first.loss, first.magnitude
        self.unit_roundoff = first.unit_roundoff
        self.careful = first.careful
        self.device = ",".join([first.device, *[part.device[4:] for part in self.parts[1:]]])

    def differences(
        self,
        tensor: str,
        indices: IndexArray,
        steps: FloatArray,
        *,
        central: bool = True,
    ) -> Differences:
        """Perturb single elements; see `fastcheck.engines.base.Engine`."""
        count, many = len(indices), len(self.parts)
        edges = [count * number // many for number in range(many + 1)]
        ranges = [slice(*pair) for pair in pairwise(edges)]

        def run(part: E, where: slice) -> Differences:
            return part.differences(tensor, indices[where], steps[where], central=central)

        # Whatever happens meanwhile, `with` leaves no thread at work behind.
        with ThreadPoolExecutor(many, thread_name_prefix="fastcheck") as pool:
            waiting = [pool.submit(run, *each) for each in zip(self.parts, ranges, strict=True)]
            wait(waiting)
            return _joined([future.result() for future in waiting])


def _joined(found: list[Differences]) -> Differences:
    return Differences(
        plus=np.concatenate([part.plus for part in found]),
        minus=np.concatenate([part.minus for part in found]),
        step_plus=np.concatenate([part.step_plus for part in found]),
        step_minus=np.concatenate([part.step_minus for part in found]),
        kinked=np.concatenate([part.kinked for part in found]),
        loss_calls=sum(part.loss_calls for part in found),
    )
