"""What Python reads of a traced value is guarded, unless it is the loss itself."""

import math
from typing import Any

import numpy as np
import pytest

from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.slices import slice_for
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced


def guards(loss: Any, params: Any) -> list[str]:
    return [guard.action for guard in traced(loss, params).guards]


def test_a_branch_is_guarded(x: np.ndarray) -> None:
    assert guards(lambda a: a.sum() if a[0, 0] > 0 else a.prod(), x) == ["a branch"]


def test_a_guard_names_the_line(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        if a[0, 0] > 0:
            return a.sum()
        return a.mean()

    (guard,) = traced(loss, x).guards
    assert guard.source.line == loss.__code__.co_firstlineno + 1
    assert guard.source.file == __file__
    assert guard.source.function == "loss"


@pytest.mark.parametrize(
    ("loss", "action"),
    [
        (lambda a: a.sum() * max(a[0, 0], a[0, 1]), "a branch"),
        (lambda a: a.sum() * bool(a[0, 0]), "a branch"),
        (lambda a: a.sum() * any(a[0] > 0), "a branch"),
        (lambda a: a.sum() * int(a[0, 0] * 10), "an integer read from it"),
        (lambda a: a[np.argmax(a[:, 0])].sum(), "an index"),
        (lambda a: a[a > 0].sum(), "an index"),
        (lambda a: a[np.argsort(a[:, 0])].sum(), "an index"),
        (lambda a: sum(a[0, i] for i in range(np.argmax(a[:, 0]) + 1)), "an index"),
        (lambda a: a.sum() * np.nonzero(a > 0)[0].mean(), "an index"),
        (lambda a: a[np.where(a > 0)].sum(), "an index"),
    ],
)
def test_every_way_to_read_a_decision_is_guarded(x: np.ndarray, loss: Any, action: str) -> None:
    found = guards(loss, x)
    assert action in found
    graph = trace(loss, ParamTree.from_user(x))
    assert escaped_number(graph, "params") is None


@pytest.mark.parametrize(
    "loss",
    [
        lambda a: a.sum() * next(map(float, a[0])),
        lambda a: sum(map(float, a.ravel())),
        lambda a: a.sum() + next(map(math.exp, a[0])),
        lambda a: round(complex(a.sum()).real, 3) + a[0, 0],
        lambda a: a.sum() * complex(a[0, 0]).real,
        lambda a: np.sum(a * np.array([*map(float, a[0])])),
        lambda a: a.sum() * eval("float(a[0, 0])"),
    ],
)
def test_a_number_that_leaves_the_trace_is_found(x: np.ndarray, loss: Any) -> None:
    reason = escaped_number(trace(loss, ParamTree.from_user(x)), "params")
    assert reason is not None
    assert "a plain Python number is made of an array that depends on params" in reason
    assert "test_branches.py:" in reason


@pytest.mark.parametrize(
    "loss",
    [
        lambda a: float(a.sum()),
        lambda a: a.sum().item(),
        lambda a: np.float64(a.sum()),
        lambda a: a.sum(keepdims=True),
        lambda a: float(np.squeeze(a.sum(keepdims=True))),
        lambda a: next(iter([float(a.sum())])),
        lambda a: np.sum(a)[()],
        lambda a: a.sum().astype(float),
    ],
)
def test_the_loss_may_leave_as_a_number(x: np.ndarray, loss: Any) -> None:
    assert guards(loss, x) == []


def test_logging_the_loss_is_no_decision(x: np.ndarray) -> None:
    history: list[float] = []

    def loss(a: Any) -> Any:
        total = a.sum()
        history.append(float(total))
        f"loss {total:.3f} {total}"
        return total

    assert guards(loss, x) == []


def test_printing_shows_the_value(x: np.ndarray, capsys: Any) -> None:
    def loss(a: Any) -> Any:
        print(a[0, 0])
        return a.sum()

    trace(loss, ParamTree.from_user(x))
    assert capsys.readouterr().out == f"{x[0, 0]}\n"


def test_a_guard_belongs_to_the_tensors_that_reach_it(x: np.ndarray) -> None:
    def loss(p: Any) -> Any:
        return p["b"].sum() * (2.0 if p["a"].sum() > 0 else 1.0)

    graph = traced(loss, {"a": x, "b": x})
    assert len(slice_for(graph, "a").guards) == 1
    assert not slice_for(graph, "b").guards


def test_branching_on_data_needs_no_guard(x: np.ndarray) -> None:
    data = np.ones(3)

    def loss(a: Any) -> Any:
        made = np.zeros(3)
        return a.sum() if data[0] > 0 and made[0] == 0 else a.prod()

    assert guards(loss, x) == []


def test_an_integer_of_a_branchy_loop(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        a = a * 1.0
        while np.abs(a).max() > 0.1:
            a = a * 0.5
        return a.sum()

    assert set(guards(loss, x)) == {"a branch"}


def test_a_loss_without_parameters_is_a_constant(x: np.ndarray) -> None:
    graph = traced(lambda a: 3.0, x)
    assert graph.output.constant


def test_a_loss_that_is_no_number_is_refused(x: np.ndarray) -> None:
    assert refusal(lambda a: a * 2, x) == "the loss has shape (3, 4), not one number"
