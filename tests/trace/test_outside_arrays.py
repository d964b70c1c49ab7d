"""Arrays that the loss finds outside itself: read as data, written in place, and put back."""

import argparse
import collections
import contextlib
import dataclasses
import functools
import itertools
import sys
import threading
import time
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import fastcheck
from fastcheck.keep import keep
from fastcheck.params import ParamTree
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

from .conftest import refusal

RNG = np.random.default_rng(5)
X = RNG.normal(size=(5, 3))
BUFFER = np.zeros((5, 4))
P = {"W": RNG.normal(size=(3, 4)), "b": RNG.normal(size=4)}


def check(loss: Any, tensors: str = "W b", **kwargs: Any) -> Any:
    """Trace, and compare the whole graph with the loss in many places; nothing stays changed."""
    params = {name: P[name].copy() for name in tensors.split()}
    tree = ParamTree.from_user(params)
    graph = trace(loss, tree, keeping=lambda: keep(loss, None))
    for size in (0.0, 1e-3, 1.0):
        moved = {
            name: value + size * RNG.normal(size=value.shape) for name, value in params.items()
        }
        with keep(loss, None):
            wanted = float(np.reshape(loss({name: v.copy() for name, v in moved.items()}), ()))
        assert graph.evaluate(moved) == pytest.approx(wanted, rel=1e-11, abs=1e-13)
    numerical = _numerical(loss, params)
    report = fastcheck.check(loss, params, numerical, tolerance=1e-5)
    assert report.passed, report
    assert {tensor.engine for tensor in report.tensors.values()} <= {"replay", "fused"}, report
    wrong = {name: value * (1.0 + 1e-2 * (name == "W")) for name, value in numerical.items()}
    assert list(fastcheck.check(loss, params, wrong, tolerance=1e-5).failed) == ["W"]
    return graph


def _numerical(loss: Any, params: Any) -> Any:
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    with keep(loss, None):
        for name, grad in grads.items():
            for index in np.ndindex(grad.shape):
                ends = []
                for h in (1e-5, -1e-5):
                    moved = {key: value.copy() for key, value in params.items()}
                    moved[name][index] += h
                    ends.append(float(np.reshape(loss(moved), ())))
                grad[index] = (ends[0] - ends[1]) / 2e-5
    return grads


# -- data that is read -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Data:
    X: np.ndarray


class Pair(NamedTuple):
    x: np.ndarray
    t: float


class Slotted:
    __slots__ = ("X", "later")

    def __init__(self, X: np.ndarray) -> None:
        self.X = X


class Shared:
    X = X.copy()


class Lists(list):  # type: ignore[type-arg]
    pass


HOLDERS = [
    (types.SimpleNamespace(X=X), lambda held: held.X),
    (argparse.Namespace(X=X), lambda held: held.X),
    (Data(X), lambda held: held.X),
    (Slotted(X), lambda held: held.X),
    (Shared(), lambda held: held.X),
    ({"train": {"X": X}}, lambda held: held["train"]["X"]),
    ([Pair(X, 1.0)], lambda held: held[0].x),
    ([(X, 1.0)], lambda held: held[0][0]),
    (Lists([X]), lambda held: held[0]),
    (collections.deque([X]), lambda held: held[0]),
    (collections.OrderedDict(a=[{"b": (X,)}]), lambda held: held["a"][0]["b"][0]),
    (types.SimpleNamespace(next=types.SimpleNamespace(X=X)), lambda held: held.next.X),
    ((X > 0, 0), lambda held: held[0]),
    ({"X": (X * 3).astype(int)}, lambda held: held["X"]),
    (types.MappingProxyType({"X": X}), lambda held: held["X"]),
    (np.array([X, None], dtype=object), lambda held: held[0]),
]


@pytest.mark.parametrize(("held", "get"), HOLDERS, ids=lambda v: type(v).__name__)
def test_methods_of_data_wherever_it_is(held: Any, get: Any) -> None:
    check(lambda p: np.sum(np.tanh(get(held).dot(p["W"]) + p["b"]) ** 2))


@pytest.mark.parametrize(("held", "get"), HOLDERS[:12], ids=lambda v: type(v).__name__)
def test_methods_of_data_of_code_without_a_source(held: Any, get: Any) -> None:
    space: dict[str, Any] = {"np": np, "held": held, "get": get}
    exec("def loss(p): return np.sum(np.tanh(get(held).dot(p['W']) + p['b']) ** 2)", space)
    check(space["loss"])


def test_data_that_is_made_on_the_way() -> None:
    check(lambda p: np.sum((X > 0).dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum((X > 0).astype(float).dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum(np.random.RandomState(1).randn(5, 3).dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum(np.random.default_rng(1).random((5, 3))[::2].dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum(np.linspace(0, 1, 15).reshape(5, 3).dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum(np.arange(15).reshape(5, 3).dot(p["W"]) ** 2), "W")
    check(lambda p: np.sum(np.array([[1, 2, 3]]).dot(p["W"]) ** 2), "W")


def test_data_that_is_made_on_the_way_and_written() -> None:
    def loss(p: Any) -> Any:
        noise = np.random.RandomState(0).randn(4)
        noise -= p["b"]
        line = np.linspace(0.0, 1.0, 4)
        line[1:3] = p["W"][0, :2]
        return np.sum(noise**2) + np.sum(line**3) + np.sum(p["W"] ** 2)

    check(loss)


def test_the_result_of_a_call_that_others_hold_is_not_taken_for_a_new_array() -> None:
    same = itertools.repeat(np.zeros(4))

    def loss(p: Any) -> Any:
        made = next(same)
        made[:] = p["b"]
        return np.sum(made**2) + np.sum(next(same))

    assert "ordinary" in refusal(loss, P)
    views = itertools.chain.from_iterable(itertools.repeat([np.zeros(4)[1:]]))

    def loss_of_a_view(p: Any) -> Any:
        made = next(views)
        made += p["b"][1:]
        return np.sum(made**2)

    assert "ordinary" in refusal(loss_of_a_view, P)


class Layer:
    def __init__(self, X: np.ndarray) -> None:
        self.X = X

    def forward(self, W: Any) -> Any:
        return self.scaled(self.X.dot(W))

    @staticmethod
    def scaled(z: Any) -> Any:
        return BATCH.T.dot(z)

    @property
    def last(self) -> Any:
        return self.X.T

    @classmethod
    def also(cls, W: Any) -> Any:
        return BATCH.dot(W)


class Deeper(Layer):
    def forward(self, W: Any) -> Any:
        return super().forward(W) + self.last.dot(BATCH.dot(W)) + self.also(W)[:3]


BATCH = RNG.normal(size=(5, 3))


def test_methods_of_the_user_s_classes() -> None:
    net = types.SimpleNamespace(layers=[Deeper(X)])
    check(lambda p: np.sum(net.layers[0].forward(p["W"]) ** 2), "W")


# -- arrays that are written -----------------------------------------------------------------------


class Net:
    def __init__(self) -> None:
        self.theta = np.zeros(16)
        self.W = np.zeros((3, 4))
        self.b = np.zeros(4)
        self.params = {"W": self.W, "b": [self.b]}
        self.h = np.zeros((6, 4))

    def forward(self) -> Any:
        return np.tanh(X.dot(self.W) + self.b)


def in_place(net: Net, p: Any) -> None:
    net.W[...] = p["W"]
    net.b[:] = p["b"]


def by_copyto(net: Net, p: Any) -> None:
    np.copyto(net.W, p["W"])
    np.copyto(net.params["b"][0], p["b"])


def by_the_dict(net: Net, p: Any) -> None:
    for name, array in (("W", net.params["W"]), ("b", net.params["b"][0])):
        array[...] = p[name]


def by_fill_and_add(net: Net, p: Any) -> None:
    net.W.fill(0.0)
    net.W += p["W"]
    net.b *= 0.0
    np.add(net.b, p["b"], out=net.b)


@pytest.mark.parametrize("write", [in_place, by_copyto, by_the_dict, by_fill_and_add])
def test_weights_of_an_object_are_set_in_place(write: Any) -> None:
    net = Net()

    def loss(p: Any) -> Any:
        write(net, p)
        return np.sum(net.forward() ** 2) + np.sum(net.params["W"] ** 2) + net.params["b"][0].sum()

    arrays = [net.W, net.b, net.params["W"], net.params["b"][0]]
    check(loss)
    assert all(a is b for a, b in zip(arrays, [net.W, net.b, *_both(net)], strict=True))
    assert not net.W.any()
    assert not net.b.any()


def _both(net: Net) -> list[Any]:
    return [net.params["W"], net.params["b"][0]]


@pytest.mark.parametrize("order", ["C", "F"])
def test_weights_that_view_one_vector(order: Any) -> None:
    net = Net()
    net.W = net.theta[:12].reshape((3, 4), order=order)
    net.b = net.theta[12:]
    assert net.W.base is net.theta

    def loss(p: Any) -> Any:
        net.theta[12:] = p["b"]
        net.W[...] = p["W"]
        net.theta[::5] *= 2.0
        net.W.T[1, :] += 1.0
        net.b -= net.W[0]
        return np.sum(net.forward() ** 2) + np.sum(net.theta**3)

    check(loss)
    assert not net.theta.any()


def test_the_states_of_a_recurrent_network_kept_on_the_object() -> None:
    net = Net()

    def loss(p: Any) -> Any:
        for t in range(5):
            net.h[t + 1] = np.tanh(X[t].dot(p["W"]) + p["b"] * net.h[t])
        return np.sum(net.h[1:] ** 2)

    check(loss)


def test_a_buffer_of_the_module_and_one_of_a_closure() -> None:
    mine = np.zeros((4, 5))

    def loss(p: Any) -> Any:
        np.dot(X, p["W"], out=BUFFER)
        mine[:] = BUFFER.T
        mine[0] *= p["b"][0]
        return np.sum(mine**2) + BUFFER.sum()

    check(loss)
    assert not BUFFER.any()
    assert not mine.any()


def test_a_write_is_seen_through_every_container() -> None:
    buffers = [np.zeros(4), np.zeros(4)]
    views = {"all": tuple(buffers), "first": collections.deque([buffers[0][1:]])}

    def loss(p: Any, given: Any = buffers[1]) -> Any:
        buffers[0][:] = p["b"]
        given += p["W"][0]
        total = np.sum(np.concatenate(views["all"]) ** 2)
        return total + np.prod(views["first"][0]) + np.sum(np.stack(buffers) ** 3)

    def fresh(p: Any) -> Any:
        buffers[1][:] = 0.0
        return loss(p)

    check(fresh)


@pytest.mark.parametrize(
    "hide",
    [
        lambda array: array.view(np.int64),
        lambda array: as_strided(array, (3, 2), (8, 8)),
        lambda array: np.frombuffer(memoryview(array)),
        lambda array: array.view(np.matrix),
        lambda array: iter([array]),
        lambda array: types.MappingProxyType({"a": array}),
        lambda array: _remembered(array),
        lambda array: array.sum,
        lambda array: np.array([array, None], dtype=object),
        lambda array: (one for one in [array]),
        lambda array: _readonly(array),
    ],
)
def test_a_write_is_refused_where_not_all_ways_to_the_memory_are_known(hide: Any) -> None:
    array = np.zeros(4)
    held = types.SimpleNamespace(array=array, hidden=hide(array))

    def loss(p: Any) -> Any:
        held.array[:] = p["b"]
        return np.sum(held.array**2) + (0.0 if held.hidden is None else 1.0)

    assert "written to" in refusal(loss, P) or "ordinary" in refusal(loss, P)
    report = fastcheck.check(loss, {"b": P["b"]}, {"b": 2 * P["b"]})
    assert report.passed
    assert report.tensors["b"].engine == "loop"


def _remembered(array: np.ndarray) -> Any:
    function = functools.lru_cache(lambda: array)
    function()
    return function


def _readonly(array: np.ndarray) -> np.ndarray:
    view = array[:]
    view.flags.writeable = False
    return view


# -- programs against the loop ---------------------------------------------------------------------

STATEMENTS = """
net.W[...] = p["W"]
net.b[:] = p["b"]
net.b += p["b"]
net.W *= 1.5
net.W[1] = p["b"]
net.W[:, 0] = net.theta[:3]
net.theta[:12] = p["W"].ravel()
net.theta[4:8] += net.b
net.theta[::3] *= 2.0
net.theta[:] = np.sin(net.theta)
net.h[1] = p["b"]
net.h[2:5] = net.W * 0.5
net.h[0] = net.h[1] * p["b"]
np.copyto(net.b, net.W[0])
np.add(net.b, 1.0, out=net.b)
np.dot(X[0], net.W, out=net.b)
net.params["W"][0] = net.params["b"][0]
net.params["b"][0][1:] = net.theta[-3:]
total = total + float(np.sum(net.W)) * 0.1
total += float(net.b[1])
total = total + np.sum(X.dot(net.W) ** 2)
total = total + np.sum(net.theta**3)
total = total + np.sum(net.h.T.dot(net.h))
net.b = net.b + p["b"]
net.W = net.W * 1.0
x = net.W[1]; x += 1.0
x = net.theta.reshape(4, 4).T; x[0] = p["b"]
(X > 0).T.dot(X)[0]; total = total + np.sum((X > 0).dot(p["W"]))
""".strip().splitlines()


def _network(flat: bool) -> Net:
    net = Net()
    if flat:
        net.W, net.b = net.theta[:12].reshape(3, 4), net.theta[12:]
    net.params = {"W": net.W, "b": [net.b]}
    return net


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(STATEMENTS), min_size=2, max_size=9), st.booleans())
def test_programs_are_replayed_as_they_run(statements: list[str], flat: bool) -> None:
    net = _network(flat)
    space: dict[str, Any] = {"np": np, "net": net, "X": X}
    lines = ["def loss(p):", " total = np.sum(p['W'] ** 2) * np.sum(p['b'])"]
    lines += [f" {statement}" for statement in statements]
    lines += [" return total + np.sum(net.W ** 2) + np.sum(net.b) + np.sum(np.cos(net.theta))"]
    exec("\n".join(lines), space)
    loss = space["loss"]
    before = {name: id(value) for name, value in vars(net).items()}
    graph = trace(loss, ParamTree.from_user(P), keeping=lambda: keep(loss, None))
    assert {name: id(value) for name, value in vars(net).items()} == before
    for size in (0.0, 1e-2, 1.0):
        moved = {name: value + size * RNG.normal(size=value.shape) for name, value in P.items()}
        with keep(loss, None):
            wanted = float(loss({name: value.copy() for name, value in moved.items()}))
        if not graph.guards:
            assert graph.evaluate(moved) == pytest.approx(wanted, rel=1e-10, abs=1e-12)


# -- nothing stays changed -------------------------------------------------------------------------


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, Stop])
def test_everything_is_put_back(error: Any) -> None:
    net, slotted, pairs = Net(), Slotted(X), [(X, 1.0), (X[0], 2.0)]
    layer = Deeper(X)

    def helper(W: Any, data: Any = X, *, more: Any = BATCH) -> Any:
        return data.dot(W) + more.dot(W)

    def loss(p: Any) -> Any:
        net.W[...] = p["W"]
        total = np.sum(helper(net.W) ** 2) + np.sum(layer.forward(p["W"]) ** 2)
        total += sum(np.sum(x.dot(slotted.X.T.dot(slotted.X)) * t) for x, t in pairs[:1])
        if error is not None:  # the first attempt does not get here
            raise error
        return total

    def state() -> list[Any]:
        functions = [loss, helper, Layer.forward, Deeper.forward, Layer.__dict__["also"].__func__]
        return [
            *(function.__code__ for function in functions),
            *(cell.cell_contents for cell in loss.__closure__ or ()),
            helper.__defaults__,
            helper.__defaults__[0],
            helper.__kwdefaults__["more"],
            *(list(space.items()) for space in (globals(), vars(net), vars(Deeper), vars(Layer))),
            *pairs,
            *(part for pair in pairs for part in pair),
            slotted.X,
            net.W.tolist(),
        ]

    before = state()
    tree = ParamTree.from_user(P)
    expected = contextlib.nullcontext() if error is None else pytest.raises((error, Untraceable))
    with expected:
        trace(loss, tree, keeping=lambda: keep(loss, None))
    now = state()
    for one, other in zip(before, now, strict=True):
        if isinstance(one, list) and one and isinstance(one[0], tuple):
            assert [(name, id(value)) for name, value in one] == [
                (name, id(value)) for name, value in other
            ]
        else:
            assert one is other or (type(one) in (list, float) and one == other)


def test_an_interrupt_while_things_are_put_back(monkeypatch: Any) -> None:
    from fastcheck.trace import reach

    net = Net()
    put_back, times = reach.Place.put_back, []

    def interrupted(self: Any, new: Any) -> None:
        times.append(1)
        if len(times) == 2:
            raise KeyboardInterrupt
        put_back(self, new)

    monkeypatch.setattr(reach.Place, "put_back", interrupted)

    def loss(p: Any) -> Any:
        net.W[...] = p["W"]
        net.b[:] = p["b"]
        return np.sum(net.forward())

    before = {name: id(value) for name, value in vars(net).items()}
    with pytest.raises(KeyboardInterrupt):
        trace(loss, ParamTree.from_user(P))
    assert {name: id(value) for name, value in vars(net).items()} == before


def test_another_thread_calls_the_same_functions() -> None:
    seen: list[Any] = []
    go, done = threading.Event(), threading.Event()

    def work(W: Any) -> Any:
        return np.random.RandomState(0).randn(2, 3).dot(W)

    def other() -> None:
        go.wait(10)
        seen.append(work(P["W"]))
        seen.append(np.random.RandomState(0).randn(3))
        done.set()

    def loss(p: Any) -> Any:
        result = np.sum(work(p["W"]) ** 2)
        go.set()
        done.wait(10)
        return result

    thread = threading.Thread(target=other)
    thread.start()
    trace(loss, ParamTree.from_user(P))
    thread.join()
    assert [type(one) for one in seen] == [np.ndarray, np.ndarray]


def test_a_module_of_the_user_s(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "data_of_mine.py").write_text(
        "import numpy as np\nX = np.ones((5, 3))\nB = np.zeros(4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import data_of_mine  # type: ignore[import-not-found]

    def loss(p: Any) -> Any:
        data_of_mine.B[:] = p["b"]
        return np.sum(np.tanh(data_of_mine.X.dot(p["W"]) + data_of_mine.B))

    before = dict(vars(data_of_mine))
    check(loss)
    assert all(vars(data_of_mine)[name] is value for name, value in before.items())
    del sys.modules["data_of_mine"]


def test_a_large_list_of_numbers_costs_little() -> None:
    held = types.SimpleNamespace(numbers=[0.5] * 10**6, X=X)

    def loss(p: Any) -> Any:
        return np.sum(held.X.dot(p["W"]) * held.numbers[0])

    start = time.perf_counter()
    trace(loss, ParamTree.from_user(P))
    assert time.perf_counter() - start < 2.0


def test_data_that_is_written_is_read_as_it_is_at_that_time() -> None:
    held = types.SimpleNamespace(X=X.copy(), order=np.arange(5))

    def loss(p: Any) -> Any:
        held.X[...] = X
        first = np.sum(held.X.dot(p["W"]) ** 2)
        kept, view = held.X.copy(), held.X.T
        held.X *= 2.0
        held.X[0] = p["W"][:, 0]
        return first + np.sum(view.T.dot(p["W"])) + np.sum(kept.dot(p["W"]) ** 3)

    check(loss, "W")
    np.testing.assert_array_equal(held.X, X)


def test_two_checks_at_once_in_one_loss() -> None:
    net = Net()

    def inner(p: Any) -> Any:
        net.W[...] = p["W"]
        return np.sum(net.W**2)

    def loss(p: Any) -> Any:
        fastcheck.check(inner, {"W": np.ones((3, 4))}, {"W": np.full((3, 4), 2.0)})
        net.b[:] = p["b"]
        return np.sum(np.sin(net.b)) + np.sum(X.dot(p["W"]))

    report = fastcheck.check(
        loss, P, {"W": np.tile(X.sum(axis=0)[:, None], 4), "b": np.cos(P["b"])}
    )
    assert report.passed
    assert type(net.W) is type(net.b) is np.ndarray
    assert "__fastcheck_result__" not in globals()
