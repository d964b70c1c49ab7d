"""Tracing in tests: a traced loss, and NumPy's own answer beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.params import ParamTree
from fastcheck.trace.graph import Graph
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace


def traced(loss: Callable[[Any], Any], params: Any, relative: float = 1e-12) -> Graph:
    """Trace, and assert that the graph gives the loss at θ and, computed again, near θ."""
    tree = ParamTree.from_user(params)
    graph = trace(loss, tree)
    assert graph.output is not None
    here = float(np.reshape(loss(tree.copies()), ()))
    assert float(graph.output.value) == pytest.approx(here, rel=relative, abs=1e-14)
    rng = np.random.default_rng(0)
    moved = {t.name: t.value.copy(order="K") for t in tree}
    for value in moved.values():
        value += 1e-3 * rng.uniform(-1, 1, value.shape)
    leaves = {
        t.name: moved[t.name][()] if t.scalar else moved[t.name].copy(order="K") for t in tree
    }
    wanted = float(np.reshape(loss(tree.build(leaves)), ()))
    assert graph.evaluate(moved) == pytest.approx(wanted, rel=relative, abs=1e-14)
    return graph


def refusal(loss: Callable[[Any], Any], params: Any) -> str:
    """Return the message of the refusal."""
    with pytest.raises(Untraceable) as caught:
        trace(loss, ParamTree.from_user(params))
    return str(caught.value)


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(3, 4))
