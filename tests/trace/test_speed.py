"""Tracing costs microseconds an operation, whatever else the graph holds."""

from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.params import ParamTree
from fastcheck.trace.tracer import trace


def seconds(loss: Any, params: Any) -> tuple[float, int]:
    start = perf_counter()
    graph = trace(loss, ParamTree.from_user(params))
    return perf_counter() - start, len(graph)


def test_twenty_thousand_operations(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        for _ in range(10_000):
            a = np.tanh(a) * 1.01
        return a.sum()

    taken, nodes = seconds(loss, x)
    assert nodes > 20_000
    assert taken < 5


def test_a_long_recurrence_in_a_preallocated_array(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        h = np.zeros((2001, 4))
        for t in range(2000):
            h[t + 1] = np.tanh(h[t] + a[t % 3])
        return h.sum()

    taken, _ = seconds(loss, x)
    assert taken < 5


def test_constants_written_one_by_one_are_not_copied_each_time(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        h = np.zeros((3000, 500))
        for t in range(3000):
            h[t] = t
        return h.sum() * a.sum()

    taken, nodes = seconds(loss, x)
    assert nodes < 10_000
    assert taken < 2


def test_data_used_many_times_is_kept_once(x: np.ndarray) -> None:
    data = np.ones((300, 400))

    def loss(a: Any) -> Any:
        return sum(np.sum(data[:3, :4] * a) + np.sum(data * a[0, 0]) for _ in range(20))

    graph = trace(loss, ParamTree.from_user(x))
    assert sum(node.constant and node.value.size == data.size for node in graph) == 1
