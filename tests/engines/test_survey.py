"""The sizes of stacks, counted as they come and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.differences import Delta
from fastcheck.engines import replay
from fastcheck.engines.replay import ReplayEngine
from fastcheck.engines.survey import Sizes
from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.tracer import trace

RNG = np.random.default_rng(6)
X = RNG.standard_normal((7, 5))
PARAMS = {"W": RNG.standard_normal((5, 4)), "V": RNG.standard_normal((4, 9))}


def network(p: Any) -> Any:
    hidden = np.tanh(X @ p["W"])
    out = np.tanh(hidden @ p["V"])
    return np.sum(out**2) + np.sum(hidden * hidden[:, ::-1])


def recurrence(p: Any) -> Any:
    h, total = X @ p["W"], 0.0
    for _ in range(30):
        h = np.tanh(h + h[:, ::-1])
        total = total + np.sum(h**2)
    return total


class Watched(Sizes):
    """Adds everything up that lives, after every stack."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: list[Delta] = []
        self.most = 0

    def made(self, node: Any, delta: Delta) -> None:
        super().made(node, delta)
        self.alive.append(delta)
        self.most = max(self.most, sum(one.values.nbytes for one in self.alive))

    def dropped(self, delta: Delta) -> None:
        super().dropped(delta)
        self.alive.remove(delta)


def engine(graph: Graph, tensor: str) -> ReplayEngine:
    one = ParamTree.from_user(PARAMS)[tensor]
    assert graph.output is not None
    return ReplayEngine(graph, one, float(graph.output.value), 2**30, lambda *_: np.zeros(0))


@pytest.mark.parametrize("loss", [network, recurrence])
def test_the_peak_is_that_of_all_stacks_that_live_together(loss, monkeypatch) -> None:
    made: list[Watched] = []

    def watched() -> Watched:
        made.append(Watched())
        return made[-1]

    monkeypatch.setattr(replay, "Sizes", watched)
    found = engine(trace(loss, ParamTree.from_user(PARAMS)), "W").survey
    (sizes,) = made
    copies = 2 * len(found.probes)
    assert found.peak == -(-2 * sizes.most // copies)
    assert found.largest <= found.peak
    assert len(sizes.alive) <= 1, "but for the loss, everything is dropped in the end"


def test_a_few_changes_come_with_the_survey() -> None:
    work = engine(trace(network, ParamTree.from_user(PARAMS)), "V")
    indices, moves = np.array([3, 17, 3]), np.array([0.3, -0.2, 1e-3])
    found = work.changes(indices, moves)
    assert work._survey is not None
    for index, move, change in zip(indices, moves, found, strict=True):
        moved = PARAMS["V"].copy()
        moved.flat[index] += move
        np.testing.assert_allclose(
            change, network(PARAMS | {"V": moved}) - network(PARAMS), rtol=1e-9
        )
    assert len(work.survey.probes) == len(work.survey.up) == len(work.survey.down)
