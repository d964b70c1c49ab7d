"""Losses as people have them: functions, methods, partials, objects; batches of any form."""

from functools import lru_cache, partial

import numpy as np
import pytest

from fastcheck import GradientError, Monitor, Verdict
from fastcheck.bound import Bound, users_function, users_objects

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 4))
Y = RNG.standard_normal((12, 2))
W = RNG.standard_normal((4, 2))
RIGHT = 2 * X.T @ (X @ W - Y)
MODES = ("full", "directions")


def function(params, batch):
    return np.sum((batch[0] @ params["W"] - batch[1]) ** 2)


def by_method_of_data(params, batch):
    inputs, wanted = batch
    return ((inputs.dot(params["W"]) - wanted) ** 2).sum()


class Model:
    """Keeps what the backward pass needs on itself."""

    def __init__(self):
        self.out = None
        self.calls = 0

    def loss(self, params, batch):
        self.calls += 1
        self.out = batch[0].dot(params["W"]) - batch[1]
        return np.sum(self.out**2)

    @staticmethod
    def static(params, batch):
        return function(params, batch)

    @classmethod
    def of_class(cls, params, batch):
        return function(params, batch)

    def __call__(self, params, batch):
        return self.loss(params, batch)


class Forward:
    """A class as a loss: making one computes it, and it can be read as a number."""

    def __init__(self, params, batch):
        self.value = function(params, batch)

    def __float__(self):
        return float(self.value)


class Value:
    """A class whose instances are made into numbers at once."""

    def __new__(cls, params, batch):
        return by_method_of_data(params, batch)


def weighted(factor, params, batch):
    return factor * function(params, batch)


LOSSES = {
    "function": function,
    "lambda": lambda params, batch: function(params, batch),
    "X.dot(W)": by_method_of_data,
    "method": Model().loss,
    "object": Model(),
    "static method": Model.static,
    "class method": Model.of_class,
    "partial": partial(weighted, 1.0),
    "partial of a method": partial(Model().loss),
    "nested": (lambda inner: lambda params, batch: inner(params, batch))(by_method_of_data),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", LOSSES)
def test_every_kind_of_loss(name, mode):
    monitor = Monitor(LOSSES[name], every=1, mode=mode)
    for _ in range(2):
        assert monitor({"W": W}, {"W": RIGHT}, batch=(X, Y))
    with pytest.raises(GradientError):
        monitor({"W": W}, {"W": 1.01 * RIGHT}, batch=(X, Y))


@pytest.mark.parametrize("name", LOSSES)
def test_every_kind_of_loss_is_traced(name):
    report = Monitor(LOSSES[name], every=1)({"W": W}, {"W": RIGHT}, batch=(X, Y))
    assert report.tensors["W"].engine in ("replay", "fused"), report.tensors["W"].engine_reason


@pytest.mark.parametrize(("kind", "engine"), [(Forward, "loop"), (Value, "replay")])
def test_a_class_as_a_loss(kind, engine):
    monitor = Monitor(kind, every=1, on_fail="record")
    right = monitor({"W": W}, {"W": RIGHT}, batch=(X, Y))
    assert (right.verdict, right.tensors["W"].engine) == (Verdict.PASS, engine)
    wrong = monitor({"W": W}, {"W": 1.01 * RIGHT}, batch=(X, Y))
    assert wrong.verdict is Verdict.FAIL


BATCHES = {
    "tuple": ((X, Y), lambda b: (b[0], b[1])),
    "list": ([X, Y], lambda b: (b[0], b[1])),
    "dict": ({"x": X, "y": Y}, lambda b: (b["x"], b["y"])),
    "one array": (np.hstack((X, Y)), lambda b: (b[:, :4], b[:, 4:])),
    "nested": ({"data": (X, [Y])}, lambda b: (b["data"][0], b["data"][1][0])),
    "indices": (np.arange(12), lambda b: (X[b], Y[b])),
    "a list of rows": ([*zip(X, Y, strict=True)], lambda b: tuple(map(np.array, zip(*b)))),  # noqa: B905
    "float32": ((X.astype(np.float32), Y), lambda b: (b[0].astype(np.float64), b[1])),
    "a view": ((X[::-1], Y[::-1]), lambda b: (b[0], b[1])),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", BATCHES)
def test_every_kind_of_batch(name, mode):
    batch, parts = BATCHES[name]

    def loss(params, batch):
        inputs, wanted = parts(batch)
        return np.sum((inputs.dot(params["W"]) - wanted) ** 2)

    inputs, wanted = parts(batch)
    right = 2 * inputs.T @ (inputs @ W - wanted)
    monitor = Monitor(loss, every=1, mode=mode)
    assert monitor({"W": W}, {"W": right}, batch=batch)
    with pytest.raises(GradientError):
        monitor({"W": W}, {"W": 1.01 * right}, batch=batch)


def test_a_batch_that_is_an_object():
    class Batch:
        def __init__(self, inputs, wanted):
            self.inputs, self.wanted = inputs, wanted

    def loss(params, batch):
        return np.sum((batch.inputs @ params["W"] - batch.wanted) ** 2)

    monitor = Monitor(loss, every=1)
    assert monitor({"W": W}, {"W": RIGHT}, batch=Batch(X, Y))


def test_the_batch_of_each_step_is_the_one_that_counts():
    monitor = Monitor(by_method_of_data, every=1, on_fail="record")
    for shift in (0.0, 1.0, 2.0):
        wanted = Y + shift
        right = 2 * X.T @ (X @ W - wanted)
        assert monitor({"W": W}, {"W": right}, batch=(X, wanted)).verdict is Verdict.PASS
        assert monitor({"W": W}, {"W": RIGHT + 1e-3}, batch=(X, wanted)).verdict is Verdict.FAIL


def test_a_loss_that_ignores_its_parameters_for_its_own_does_not_pass():
    """The network holds its weights itself, and the loss does not look at what it is given."""
    own = {"W": W.copy()}
    monitor = Monitor(lambda params, batch: function(own, batch), every=1, on_fail="record")
    report = monitor(own, {"W": RIGHT}, batch=(X, Y))
    assert report.verdict is not Verdict.PASS


def test_a_memoised_loss_is_no_obstacle():
    @lru_cache
    def table(size):
        return np.arange(1.0, size + 1)

    def loss(params, batch):
        return np.sum(table(2) * (batch @ params["W"]) ** 2)

    right = 2 * X.T @ ((X @ W) * np.arange(1.0, 3))
    monitor = Monitor(loss, every=1)
    for _ in range(2):
        assert monitor({"W": W}, {"W": right}, batch=X)


# -- the pieces ------------------------------------------------------------------------------------


def test_a_bound_loss_calls_what_goes_before_it_each_time():
    order = []
    bound = Bound(
        lambda params, batch: order.append((params, batch)), ("b",), lambda: order.append("before")
    )
    bound("p")
    bound("q")
    assert order == ["before", ("p", "b"), "before", ("q", "b")]


def test_the_users_own_function_and_objects_are_found_behind_it():
    generator = np.random.default_rng(0)
    bound = Bound(function, ((X, Y),), None, (generator,))
    assert users_function(bound) is function
    assert users_objects(bound) == (function, (X, Y), generator)
    assert users_function(function) is function
    assert users_objects(function) == (function,)


def test_other_parts_keep_what_goes_before():
    before, held = (lambda: None), (object(),)
    bound = Bound(function, (X,), before, held)
    other = bound.with_parts(by_method_of_data, (Y,))
    assert (other.function, other.arguments) == (by_method_of_data, (Y,))
    assert (other.before, other.holds) == (before, held)
