"""Plain data whose methods meet traced arrays: `X.dot(W)`, `X += W`, `X.copy()` written to."""

import functools
from types import MappingProxyType
from typing import Any

import numpy as np

from fastcheck.keep import keep
from fastcheck.params import ParamTree
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced

X = np.random.default_rng(3).normal(size=(5, 3))
BATCHES = [X[:2].copy(), X[2:].copy()]
SETTINGS = {"scale": 2.0, "X": X}


def hidden(a: Any) -> Any:
    return np.tanh(X.dot(a))


def test_a_method_of_a_global_array(x: np.ndarray) -> None:
    traced(lambda a: X.dot(a).sum(), x)


def test_in_a_function_that_the_loss_calls(x: np.ndarray) -> None:
    traced(lambda a: hidden(a).sum(), x)


def test_a_method_of_an_array_in_a_closure(x: np.ndarray) -> None:
    data = X * 2

    def loss(a: Any) -> Any:
        def inner() -> Any:
            return data.dot(a)

        return inner().sum()

    traced(loss, x)


def test_a_default_argument_and_a_partial(x: np.ndarray) -> None:
    def loss(data: Any, a: Any, more: Any = X) -> Any:
        return np.sum(data.dot(a) * more.dot(a))

    traced(functools.partial(loss, X), x)


def test_lists_and_dicts_of_arrays(x: np.ndarray) -> None:
    traced(lambda a: sum(batch.dot(a).sum() for batch in BATCHES), x)
    traced(lambda a: SETTINGS["X"].dot(a).sum(), x)


def test_a_copy_of_data_is_written_in_place(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        z = X.copy()
        z += a[:, 0]
        z[0] = a[0, 1]
        return np.sum(z**2)

    traced(loss, x)


def test_a_function_that_calls_itself(x: np.ndarray) -> None:
    def power(a: Any, n: int) -> Any:
        return X.T.dot(X).dot(a) if n == 0 else power(a * 0.5, n - 1)

    traced(lambda a: power(a, 3).sum(), x)


class Net:
    def __init__(self) -> None:
        self.X = X

    def loss(self, a: Any) -> Any:
        return np.sum(np.dot(self.X, a)) + X.dot(a).sum()


def test_a_bound_method(x: np.ndarray) -> None:
    traced(Net().loss, x)


def test_the_user_s_function_is_left_as_it_is(x: np.ndarray) -> None:
    data, calls = X.copy(), []

    def loss(a: Any, more: Any = X) -> Any:
        calls.append(1)
        return data.dot(a).sum() + more.dot(a).sum()

    cells = [cell.cell_contents for cell in loss.__closure__ or ()]
    code, defaults, space = loss.__code__, loss.__defaults__, dict(globals())
    trace(loss, ParamTree.from_user(x))
    assert [cell.cell_contents for cell in loss.__closure__ or ()] == cells
    assert loss.__code__ is code
    assert loss.__defaults__ is defaults
    assert loss.__defaults__[0] is X
    assert {name: id(value) for name, value in globals().items()} == {
        name: id(value) for name, value in space.items()
    }


def test_data_that_the_loss_writes_into(x: np.ndarray) -> None:
    data = X.copy()

    def loss(a: Any) -> Any:
        data[0] = 0.0
        return data.dot(a).sum()

    before = data.copy()
    trace(loss, ParamTree.from_user(x), keeping=lambda: keep(loss, None))
    np.testing.assert_array_equal(data, before)
    traced(loss, x)


def test_what_cannot_be_reached_is_refused_with_the_first_reason(x: np.ndarray) -> None:
    hidden = MappingProxyType({"data": X.copy()})

    def loss(a: Any) -> Any:
        data = hidden["data"]
        (made,) = map(data.dot, [a])
        return made.sum()

    message = refusal(loss, x)
    assert "write np.dot(X, W) for X.dot(W) where X is plain data" in message
    assert f"{__file__}:{loss.__code__.co_firstlineno + 2}" in message
