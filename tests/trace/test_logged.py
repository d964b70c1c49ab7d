"""Numbers that Python reads: what comes back is found, what does not costs nothing."""

import json
import logging
import math
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tracer import trace

from .conftest import traced

RIGHT = lambda x: 2 * np.tanh(x) * (1 - np.tanh(x) ** 2)  # noqa: E731


def made(body: str, **names: Any) -> Any:
    """A loss without a source, in which `float(c)` leaves the trace."""
    space: dict[str, Any] = {"np": np, "math": math, "json": json, "logging": logging, **names}
    lines = [
        "def loss(a):",
        " c = np.sum(np.tanh(a) ** 2)",
        *(f" {line}" for line in body.split("; ")),
    ]
    exec("\n".join(lines), space)
    return space["loss"]


LOGGED = """
history.append(float(np.mean(a))); return c
logging.debug('loss %f and %f', np.mean(a), float(c)); return c
print('%.3f' % np.mean(a), json.dumps([float(c), float(a[0, 0])])); return c
history.append({'norm': math.sqrt(float(np.sum(a * a)))}); return float(c)
history.append(math.lgamma(np.sum(a * a))); return c
best[0] = min(best[0], float(np.mean(a))); return c
"""


@pytest.mark.parametrize("body", LOGGED.strip().splitlines())
def test_what_is_only_logged_is_replayed(body: str, x: np.ndarray) -> None:
    loss = made(body, history=[], best=[math.inf])
    assert escaped_number(traced(loss, x), "params") is None
    report = fastcheck.check(loss, x, RIGHT(x))
    assert report.passed
    assert report.tensors["params"].engine in ("replay", "fused")
    assert not fastcheck.check(loss, x, RIGHT(x) * (1 + 1e-4)).passed


RETURNED = """
return c + float(np.mean(a))
return c * 2 if float(c) > 1.0 else c * float(c)
k = float(np.mean(a)); return c if k < 1e9 else c * k * (float(c) + 1) * 0 + c + k * 1e-9
history.append(float(np.mean(a))); return c + history[-1]
return c + np.sum(np.zeros(3) + math.lgamma(np.sum(a * a)))
return np.sum(a * np.array([float(c)] * 4))
return sum(a[i % 3, 0] for i in range(int(float(np.sum(a * a)) * 1e6) % 7 + 1))
return c + float('%.12f' % float(c))
"""


@pytest.mark.parametrize("body", [RETURNED.strip().splitlines()[i] for i in (0, 3, 4, 5, 6, 7)])
def test_what_comes_back_is_found(body: str, x: np.ndarray) -> None:
    graph = trace(made(body, history=[]), ParamTree.from_user(x))
    assert escaped_number(graph, "params") is not None


@pytest.mark.parametrize("body", [RETURNED.strip().splitlines()[i] for i in (0, 1, 2, 3, 4, 5)])
def test_the_verdict_is_right_whatever_becomes_of_the_numbers(body: str, x: np.ndarray) -> None:
    loss = made(body, history=[])
    numerical = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = [x.copy(), x.copy()]
        for one, h in zip(moved, (1e-5, -1e-5), strict=True):
            one[index] += h
        numerical[index] = (loss(moved[0]) - loss(moved[1])) / 2e-5
    wrong = numerical * (1 + 1e-2)
    assert fastcheck.check(loss, x, numerical, tolerance=1e-4).passed
    assert not fastcheck.check(loss, x, wrong, tolerance=1e-4).passed


def test_a_decision_far_away_is_guarded_there(x: np.ndarray) -> None:
    """With a step that reaches the other branch, copies are computed by the user's function."""
    loss = made("n = float(np.mean(a) + 10.0); return c if n < 10.5 else c * 5")
    graph = trace(loss, ParamTree.from_user(x))
    assert escaped_number(graph, "params") is None
    (guard,) = slice_for(graph, "params").guards
    assert guard.action == "a number read from it"
    for size in (1e-3, 3.0, -3.0):
        moved = x + size
        inside = bool(np.less_equal(abs(np.mean(moved) - np.mean(x)), 10 * 2.0**-10))
        if inside:
            assert graph.evaluate({"params": moved}) == pytest.approx(float(loss(moved)), rel=1e-12)
    assert abs(float(np.mean(x)) * 12 + 120) * 2.0**-10 > 1e-3
    report = fastcheck.check(loss, x, RIGHT(x), step=1e-3, tolerance=1e-4)
    assert report.passed
