"""Slices of small losses, and both replays of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.lanes import LanesEngine
from fastcheck.engines.replay import ReplayEngine
from fastcheck.lanes.writer import Hoisted
from fastcheck.params import ParamTree
from fastcheck.trace.simplify import simplify
from fastcheck.trace.tracer import trace

MEMORY = 2**28


def _no_fallback(indices: Any, moves: Any) -> Any:
    raise AssertionError("no branch of these losses depends on the parameters")


class Tools:
    """What tests here share."""

    @staticmethod
    def engines(
        loss: Callable[[Any], Any], params: dict[str, Any]
    ) -> dict[str, tuple[LanesEngine, ReplayEngine]]:
        """Return both replays of each tensor; the programs share their constants."""
        tree = ParamTree.from_user(params)
        graph = simplify(trace(loss, tree))
        assert graph.output is not None
        hoisted, found = Hoisted(), {}
        for tensor in tree:
            replay = ReplayEngine(graph, tensor, float(graph.output.value), MEMORY, _no_fallback)
            found[tensor.name] = LanesEngine(replay, tensor, hoisted, MEMORY), replay
        return found

    @staticmethod
    def assert_alike(lanes: LanesEngine, replay: ReplayEngine, tensor: str, step: float) -> None:
        """Compare the differences of every element, the programs' own ones and none replayed."""
        size = int(np.prod(replay.slice.parameter.shape, dtype=int))
        indices, steps = np.arange(size), np.full(size, step)
        ours = lanes.differences(tensor, indices, steps)
        assert (lanes.refused, lanes.obstacle) == (0, None)
        theirs = replay.differences(tensor, indices, steps)
        largest = max(np.abs(theirs.plus).max(), np.abs(theirs.minus).max())
        np.testing.assert_allclose(ours.plus, theirs.plus, rtol=1e-12, atol=1e-13 * largest)
        np.testing.assert_allclose(ours.minus, theirs.minus, rtol=1e-12, atol=1e-13 * largest)


@pytest.fixture
def tools() -> type[Tools]:
    return Tools
