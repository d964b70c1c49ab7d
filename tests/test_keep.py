"""After `keep`, everything of the user's is as it was before."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import random
import sys
import tracemalloc
from collections import OrderedDict, deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

import fastcheck
from fastcheck.errors import FastcheckError
from fastcheck.keep import arrays, bindings, contents, keep

COUNT = 0
CACHE: dict[str, Any] = {}


def nothing(params: Any) -> float:
    return 0.0


def bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()


@settings(max_examples=100, deadline=None)
@given(
    npst.arrays(
        st.sampled_from(["<f2", "<f4", ">f8", "<f8", "i4", "?", "c16", "g"]),
        npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    ),
    st.sampled_from([lambda a: a, np.transpose, lambda a: a[..., ::-1] if a.ndim else a]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, KeyboardInterrupt, ValueError, SystemExit]),
)
def test_arrays_come_back_bit_for_bit_after_any_write_and_any_exit(
    array: Any, view: Any, seed: int, error: Any
) -> None:
    array = view(array)
    before = bits(array)
    rng = np.random.default_rng(seed)
    expectation = pytest.raises(error) if error else contextlib.nullcontext()
    with expectation, keep(nothing, [array], {"dW": array}):
        if array.size:
            array[...] = rng.integers(-9, 9, array.shape).astype(array.dtype)
            array.flat[rng.integers(array.size)] = 1
        if error:
            raise error
    assert bits(array) == before


@pytest.mark.parametrize("written", [-0.0, np.nan, 1.0])
def test_the_sign_of_zero_and_the_payload_of_nan_come_back(written: float) -> None:
    array = np.array([0.0, -0.0, 1.0])
    array.view(np.uint64)[2] = 0x7FF8_0000_0000_1234
    before = bits(array)
    with keep(nothing, array) as kept:
        array[:] = written
        assert kept.changed() == ["params"]
    assert bits(array) == before


def test_changed_names_the_tensors_that_differ_now() -> None:
    params = {"W": np.zeros(2), "layers": [np.zeros(2), np.zeros(2)]}
    with keep(nothing, params) as kept:
        assert kept.changed() == []
        params["W"][0] = -0.0
        params["layers"][1][0] = 1.0
        assert kept.changed() == ["W", "layers[1]"]
        params["W"][0] = 0.0
        assert kept.changed() == ["layers[1]"]


def test_the_error_of_the_block_comes_through_unchanged() -> None:
    error = ValueError("mine")
    with pytest.raises(ValueError, match=r"^mine$") as caught, keep(nothing, np.ones(1)):
        raise error
    assert caught.value is error


def test_gradients_come_back() -> None:
    grads = {"dW": np.ones(2), "dZ": np.ones(3, int)}
    with keep(nothing, np.ones(2), grads):
        grads["dW"] *= 2
        grads["dZ"][:] = 0
        grads["dA"] = 1
    assert list(grads) == ["dW", "dZ"]
    assert grads["dW"].tolist() == [1, 1]
    assert grads["dZ"].tolist() == [1, 1, 1]


def test_a_read_only_view_comes_back_when_its_source_was_written() -> None:
    source = np.arange(4.0)
    view = source[1:3]
    view.flags.writeable = False
    with keep(nothing, {"W": view}):
        source[:] = 9
    assert source.tolist() == [0, 1, 2, 3]
    assert not view.flags.writeable


def test_a_read_only_array_that_was_unlocked_comes_back_locked() -> None:
    array = np.arange(3.0)
    array.flags.writeable = False
    with keep(nothing, array):
        array.flags.writeable = True
        array[:] = 9
    assert array.tolist() == [0, 1, 2]
    assert not array.flags.writeable


def test_an_array_that_was_locked_comes_back_unlocked() -> None:
    array = np.arange(3.0)
    with keep(nothing, array):
        array[:] = 9
        array.flags.writeable = False
    assert array.tolist() == [0, 1, 2]
    assert array.flags.writeable


def test_a_read_only_array_over_bytes_is_left_alone() -> None:
    array = np.frombuffer(bytes(16))
    with keep(nothing, array):
        pass
    assert array.tolist() == [0, 0]


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
def test_a_shape_set_in_place_comes_back() -> None:
    array = np.arange(6.0).reshape(2, 3)
    with keep(nothing, array):
        array.shape = (6,)
        array[:] = 0
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_entries_of_params_come_back_by_identity_and_in_order() -> None:
    params = {"W": np.ones(2), "b": [np.ones(1)]}
    before = params["W"], params["b"], params["b"][0]
    with keep(nothing, params):
        params["new"] = params.pop("W")
        params["b"][0] = 0
        params["b"].append(1)
    assert list(params) == ["W", "b"]
    assert params["W"] is before[0]
    assert params["b"] is before[1]
    assert len(params["b"]) == 1
    assert params["b"][0] is before[2]


class Net:
    def __init__(self) -> None:
        self.W = np.ones(2)
        self.history = [1]
        self.layers = [SimpleNamespace(W=self.W, cache={})]

    def set_weights(self, params: Any) -> None:
        self.W = params
        self.Z = params * 2

    def loss(self, params: Any) -> float:
        global COUNT
        COUNT += 1
        CACHE["Z"] = params
        self.set_weights(params)
        self.history.append(2)
        self.layers[0].W = params
        self.layers[0].cache["Z"] = params
        del self.layers[0].cache["Z"]
        self.layers[0].cache["A"] = 1
        return float(np.sum(self.W))


def assert_net_is_kept(loss: Any, net: Net) -> None:
    W, history, layers = net.W, net.history, net.layers
    with keep(loss, net.W) as kept:
        loss(np.zeros(2))
        assert net.W is not W
        assert kept.changed() == []
    assert net.W is W
    assert net.history is history
    assert history == [1]
    assert net.layers is layers
    assert layers[0].W is W
    assert layers[0].cache == {}
    assert not hasattr(net, "Z")
    assert COUNT == 0
    assert CACHE == {}


def test_a_bound_method_leaves_its_object_as_it_was() -> None:
    net = Net()
    assert_net_is_kept(net.loss, net)


def test_an_object_in_a_closure_is_kept() -> None:
    net = Net()
    assert_net_is_kept(lambda params: net.loss(params), net)


def test_an_object_in_a_partial_is_kept() -> None:
    net = Net()
    assert_net_is_kept(functools.partial(Net.loss, net), net)


def test_an_object_in_a_default_is_kept() -> None:
    net = Net()

    def loss(params: Any, *, held: Net = net) -> float:
        return held.loss(params)

    assert_net_is_kept(loss, net)


def test_an_object_behind_a_decorator_is_kept() -> None:
    net = Net()

    @functools.wraps(net.loss)
    def loss(*args: Any) -> float:
        return net.loss(*args)

    assert_net_is_kept(functools.lru_cache(lambda key: loss(np.zeros(2))).__wrapped__, net)


def test_a_memoised_loss_is_kept() -> None:
    net = Net()
    memoised = functools.lru_cache(lambda key: net.loss(np.zeros(2)))
    W = net.W
    with keep(memoised, W):
        memoised(1)
    assert net.W is W


def test_a_callable_object_is_kept() -> None:
    class Loss:
        __slots__ = ("W", "calls")

        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, params: Any) -> float:
            self.calls += 1
            self.W = params
            return 0.0

    loss = Loss()
    with keep(loss, np.ones(2)):
        loss(1)
    assert loss.calls == 0
    assert not hasattr(loss, "W")


def test_a_deleted_slot_is_set_again() -> None:
    class Loss:
        __slots__ = ("W",)

        def __call__(self, params: Any) -> float:
            del self.W
            return 0.0

    loss = Loss()
    loss.W = 5
    with keep(loss, np.ones(2)):
        loss(1)
    assert loss.W == 5


def test_a_class_method_leaves_its_class_as_it_was() -> None:
    class Net:
        W = 1

        @classmethod
        def loss(cls, params: Any) -> float:
            cls.W = params
            cls.Z = params
            return 0.0

    with keep(Net.loss, np.ones(2)):
        Net.loss(3)
    assert Net.W == 1
    assert not hasattr(Net, "Z")


def test_closure_variables_come_back_by_identity() -> None:
    W = before = np.ones(2)
    unset: int

    def loss(params: Any) -> float:
        nonlocal W, unset
        W = params
        unset = 3
        return 0.0

    with keep(loss, np.ones(2)):
        loss(np.zeros(2))
    assert W is before
    with pytest.raises(NameError):
        unset  # noqa: B018


def test_globals_that_helpers_name_come_back() -> None:
    namespace: dict[str, Any] = {"__name__": "users_script", "W": 1}
    source = "def set(p):\n  global W, Z\n  W = Z = p\ndef loss(p):\n  set(p)\n  return 0.0"
    exec(source, namespace)
    with keep(namespace["loss"], np.ones(2)):
        namespace["loss"](5)
        assert namespace["Z"] == 5
    assert namespace["W"] == 1
    assert "Z" not in namespace


def test_globals_of_functions_defined_inside_come_back() -> None:
    namespace: dict[str, Any] = {"__name__": "users_script", "W": 1}
    source = "def loss(p):\n  def set():\n    global W\n    W = p\n  set()\n  return 0.0"
    exec(source, namespace)
    with keep(namespace["loss"], np.ones(2)):
        namespace["loss"](5)
    assert namespace["W"] == 1


def test_attributes_of_functions_come_back() -> None:
    def loss(params: Any) -> float:
        loss.calls += 1  # type: ignore[attr-defined]
        return 0.0

    loss.calls = 0  # type: ignore[attr-defined]
    with keep(loss, np.ones(2)):
        loss(1)
    assert loss.calls == 0  # type: ignore[attr-defined]


def test_a_mutable_default_comes_back() -> None:
    def loss(params: Any, cache: dict[str, Any] = {}) -> float:  # noqa: B006
        cache["Z"] = params
        return 0.0

    with keep(loss, np.ones(2)):
        loss(1)
    assert loss.__defaults__ == ({},)


def test_what_the_backward_pass_reaches_is_kept_too() -> None:
    net = Net()
    W = net.W

    def grads(params: Any) -> Any:
        net.set_weights(params)
        return params

    with keep(nothing, W, grads):
        grads(np.zeros(2))
    assert net.W is W


def test_ordered_dicts_sets_and_deques_come_back() -> None:
    held = (OrderedDict(a=1, b=2), {1}, deque([1, 2], maxlen=2))

    def loss(params: Any) -> float:
        held[0].move_to_end("a")
        held[1].add(2)
        held[2].append(3)
        return 0.0

    with keep(loss, np.ones(2)):
        loss(1)
    assert list(held[0]) == ["a", "b"]
    assert held[1:] == ({1}, deque([1, 2]))


def test_a_replaced_attribute_dict_comes_back() -> None:
    net = Net()
    attributes = net.__dict__
    with keep(net.loss, np.ones(2)):
        net.__dict__ = {}
    assert net.__dict__ is attributes
    assert net.history == [1]


def test_an_array_that_shares_memory_with_params_is_kept_whole() -> None:
    flat = np.arange(6.0)

    def loss(params: Any) -> float:
        flat[:] = 0
        return 0.0

    with keep(loss, flat[:4].reshape(2, 2)) as kept:
        loss(None)
        assert kept.changed() == ["params"]
    assert flat.tolist() == [0, 1, 2, 3, 4, 5]


def holder(held: Any) -> Any:
    """A loss that holds something in its closure."""
    return lambda params: held


RUNNING = np.zeros(3)


def write_running(params: Any) -> float:
    RUNNING[:] = 1
    return 0.0


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
def test_a_buffer_in_a_closure_attribute_or_global_comes_back(error: Any) -> None:
    running, net = np.zeros(3), SimpleNamespace(X=np.ones(2, np.float32), mask=np.ones(2, bool))

    def loss(params: Any) -> float:
        running[:] = 0.9 * running + 0.1
        net.X *= 2
        net.mask[0] = False
        return write_running(params)

    expectation = pytest.raises(error) if error else contextlib.nullcontext()
    with expectation, keep(loss, np.ones(2)) as kept:
        loss(None)
        assert kept.left_out == ()
        if error:
            raise error
    assert running.tolist() == RUNNING.tolist() == [0, 0, 0]
    assert net.X.tolist() == [1, 1]
    assert net.mask.tolist() == [True, True]


def test_an_object_array_comes_back_with_what_its_elements_hold() -> None:
    inner = np.zeros(2)
    ragged = np.array([inner, None], dtype=object)
    with keep(holder(ragged), np.ones(1)):
        inner[:] = 1
        ragged[0] = 3
    assert ragged[0] is inner
    assert inner.tolist() == [0, 0]


def test_only_what_changed_is_written_back(monkeypatch: Any) -> None:
    written = []
    real = arrays.ArrayContents._write

    def write(self: Any) -> None:
        written.append(self._array)
        real(self)

    monkeypatch.setattr(arrays.ArrayContents, "_write", write)
    first, second = np.zeros(2), np.zeros(3)
    with keep(holder([first, second]), np.ones(1)):
        second[0] = 1
    assert [array is second for array in written] == [True]


def test_a_read_only_array_that_a_loss_reads_is_not_copied() -> None:
    data = np.zeros(3)
    data.flags.writeable = False
    with keep(holder(data), np.ones(1)):
        data.flags.writeable = True
        data[0] = 1
    assert data[0] == 1


def test_what_a_read_only_view_views_comes_back() -> None:
    data = np.zeros(3)
    view = np.broadcast_to(data, (5, 3))
    with keep(holder(view), np.ones(1)):
        data[0] = 1
    assert view.sum() == 0


def test_a_data_set_beyond_the_limit_is_left_out_without_a_copy_and_said() -> None:
    data, buffer = np.zeros((60_000, 784)), np.zeros(3)
    tracemalloc.start()
    try:
        with keep(holder([data, buffer]), np.ones(1)) as kept:
            data[0] = buffer[0] = 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert kept.left_out == ("the contents of 1 array of 376 MB",)
    assert peak < 2**20
    assert buffer[0] == 0
    assert data[0, 0] == 1


@pytest.fixture
def limit_of_1000_bytes(monkeypatch: Any) -> None:
    monkeypatch.setattr(contents, "_MOST_BYTES", 1000)


@pytest.mark.usefixtures("limit_of_1000_bytes")
def test_the_smallest_arrays_are_kept_and_the_others_counted() -> None:
    held = [np.zeros(size) for size in (1_000_000, 100, 10, 1_000_000)]
    with keep(holder(held), np.ones(1)) as kept:
        for array in held:
            array[0] = 1
    assert [array[0] for array in held] == [1, 0, 0, 1]
    assert kept.left_out == ("the contents of 2 arrays of 16 MB in all",)


@pytest.mark.usefixtures("limit_of_1000_bytes")
def test_an_array_and_its_batches_count_once() -> None:
    data = np.zeros(120)
    held = [data, *np.split(data, 4)]
    with keep(holder(held), np.ones(1)) as kept:
        data[:] = 1
    assert kept.left_out == ()
    assert data.sum() == 0


@pytest.mark.usefixtures("limit_of_1000_bytes")
def test_a_small_view_of_an_array_beyond_the_limit_comes_back() -> None:
    data = np.zeros(200)
    with keep(holder([data, data[:3]]), np.ones(1)) as kept:
        data[:] = 1
    assert data[:4].tolist() == [0, 0, 0, 1]
    assert len(kept.left_out) == 1


@pytest.mark.usefixtures("limit_of_1000_bytes")
def test_what_shares_memory_with_params_is_kept_at_any_size() -> None:
    flat = np.zeros(500)
    with keep(holder(flat), flat[:4]) as kept:
        flat[:] = 1
    assert flat.sum() == 0
    assert kept.left_out == ()


def nested(levels: int) -> tuple[list[Any], list[Any]]:
    """The outermost and the innermost of lists in lists."""
    inner: list[Any] = []
    outer = inner
    for _ in range(levels - 1):
        outer = [outer]
    return outer, inner


def test_depth_ends_at_sixteen_and_that_is_said() -> None:
    outer, inner = nested(16)
    with keep(holder(outer), np.ones(2)) as kept:
        inner.append(1)
    assert inner == []
    assert kept.left_out == ()
    outer, inner = nested(17)
    with keep(holder(outer), np.ones(2)) as kept:
        inner.append(1)
    assert inner == [1]
    assert kept.left_out == ("what lies more than 16 levels deep",)


def test_layers_of_a_net_of_a_model_of_a_trainer_come_back() -> None:
    net = Net()
    W, layer = net.W, net.layers[0]
    trainer = SimpleNamespace(model=SimpleNamespace(net=SimpleNamespace(inner=net)))
    with keep(holder(trainer), W):
        layer.W = 0
    assert layer.W is W


@pytest.mark.parametrize(
    "data",
    [
        list(range(12_000)),
        [[i] for i in range(12_000)],
        [[i] for i in range(110_000)],
        {i: (i, [i]) for i in range(60_000)},
    ],
)
def test_long_data_does_not_crowd_out_attributes(data: Any) -> None:
    net = SimpleNamespace(data=data, layers=[SimpleNamespace(last="mine")])
    with keep(holder(net), np.ones(2)):
        net.layers[0].last = None
    assert net.layers[0].last == "mine"


def test_numbers_and_strings_do_not_count_as_objects() -> None:
    numbers = [*range(150_000), *map(str, range(150_000)), None]
    with keep(holder(numbers), np.ones(2)) as kept:
        numbers[7] = 0
    assert numbers[7] == 7
    assert kept.left_out == ()


def test_objects_beyond_the_limit_are_said() -> None:
    with keep(holder([[i] for i in range(100_001)]), np.ones(2)) as kept:
        pass
    assert kept.left_out == ("what lies beyond the first 100,000 objects",)


class Counted:
    n = 0
    log: list[int] = []  # noqa: RUF012

    def loss(self, params: Any) -> float:
        Counted.n += 1
        type(self).m = 1  # type: ignore[attr-defined]
        self.log.append(1)
        return 0.0


class Derived(Counted):
    pass


def write_counted(params: Any) -> float:
    Counted.n += 1
    return 0.0


@pytest.mark.parametrize("loss", [Counted().loss, Derived().loss, write_counted])
@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_class_attributes_come_back(loss: Any, error: Any) -> None:
    expectation = pytest.raises(error) if error else contextlib.nullcontext()
    with expectation, keep(loss, np.ones(2)):
        loss(None)
        if error:
            raise error
    assert Counted.n == 0
    assert Counted.log == []
    assert not hasattr(Derived, "m")
    assert "n" not in vars(Derived)


def test_a_deleted_class_attribute_comes_back() -> None:
    class Config:
        rate = 1

    with keep(holder(Config), np.ones(2)):
        del Config.rate
    assert Config.rate == 1


def test_a_metaclass_does_not_see_the_putting_back() -> None:
    class Sealed(type):
        def __setattr__(cls, name: str, value: object) -> None:
            raise TypeError("sealed")

    class Config(metaclass=Sealed):
        rate = 1

    with keep(holder(Config), np.ones(2)):
        type.__setattr__(Config, "rate", 2)
    assert Config.rate == 1


def test_methods_that_replace_each_other_are_left_alone() -> None:
    class Config:
        def rate(self) -> int:
            return 1

    with keep(holder(Config), np.ones(2)):
        Config.rate = lambda self: 2  # type: ignore[method-assign]
    assert Config().rate() == 2


def test_the_state_of_fastcheck_itself_is_left_alone() -> None:
    error = FastcheckError("x")
    with keep(holder(error), np.ones(2)):
        error.hint = 1  # type: ignore[attr-defined]
    assert error.hint == 1  # type: ignore[attr-defined]


def test_an_object_graph_with_cycles_and_a_large_list_is_no_trouble() -> None:
    node = SimpleNamespace(numbers=list(range(200_000)), many=[[] for _ in range(20_000)])
    node.again = node
    with keep(lambda params: node, np.ones(2)):
        node.numbers.clear()
    assert len(node.numbers) == 200_000


def test_what_a_library_holds_for_itself_is_left_alone() -> None:
    logger = logging.getLogger("fastcheck-test")
    with keep(lambda params: logger.info("x"), np.ones(2)):
        logger.setLevel(logging.ERROR)
    assert logger.level == logging.ERROR


def test_global_random_states_come_back() -> None:
    np.random.seed(3)
    random.seed(3)
    np.random.randn()  # A cached second normal number is part of the state.
    with keep(nothing, np.ones(2)):
        inside = np.random.randn(3).tolist(), random.random()
    assert (np.random.randn(3).tolist(), random.random()) == inside


@pytest.mark.parametrize(
    "make", [np.random.default_rng, np.random.RandomState, random.Random, np.random.Philox]
)
def test_generators_that_the_loss_holds_come_back(make: Any) -> None:
    generator = make(1)

    def draw(params: Any) -> Any:
        drawer = getattr(generator, "random", None) or generator.random_raw
        return drawer()

    with keep(draw, np.ones(2)):
        inside = draw(None)
    assert draw(None) == inside


def test_an_interrupt_while_putting_back_does_not_stop_it(monkeypatch: Any) -> None:
    first, second = np.zeros(2), np.zeros(2)
    interrupts = [KeyboardInterrupt]
    real = arrays.ArrayContents.restore

    def restore(self: Any) -> None:
        real(self)
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(arrays.ArrayContents, "restore", restore)
    with pytest.raises(KeyboardInterrupt), keep(nothing, [first, second]):
        first[:] = second[:] = 1
    assert first.tolist() == second.tolist() == [0, 0]


def test_what_cannot_be_put_back_is_said_and_the_rest_is_put_back(monkeypatch: Any) -> None:
    def fail(self: Any) -> None:
        raise RuntimeError("sealed")

    monkeypatch.setattr(bindings.Elements, "restore", fail)
    held, W = [1], np.zeros(2)
    said = r"`loss` or `grads` changed 1 object\(s\) .*RuntimeError: sealed.*make them again"
    with pytest.raises(FastcheckError, match=said), keep(lambda params: held, {"W": W}):
        W[:] = 1
    assert W.tolist() == [0, 0]
    with pytest.raises(ValueError, match="mine") as caught, keep(lambda params: held, W):
        raise ValueError("mine")
    assert "sealed" in caught.value.__notes__[0]


@pytest.mark.parametrize("odd", [None, 3, "x", np.sum, object(), type])
def test_odd_arguments_are_left_to_others_to_refuse(odd: Any) -> None:
    with keep(odd, odd, odd) as kept:
        assert kept.changed() == []


def test_a_cyclic_params_does_not_hang() -> None:
    params: list[Any] = [np.zeros(1)]
    params.append(params)
    with keep(nothing, params):
        params[0][0] = 1
    assert params[0][0] == 0


class World:
    """Attributes and containers for random writes."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.W = params["W"]
        self.log: list[Any] = []
        self.cache: dict[str, Any] = {"Z": 1}


WRITES = {
    "array": lambda world: world.W.__setitem__(0, 7.0),
    "attribute": lambda world: setattr(world, "W", 0),
    "new attribute": lambda world: setattr(world, "new", 0),
    "delete": lambda world: vars(world).pop("cache", None),
    "append": lambda world: world.log.append(1),
    "rebind": lambda world: setattr(world, "log", [2]),
    "entry": lambda world: world.params.update(W=3),
    "random": lambda world: np.random.rand(),
}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(sorted(WRITES)), max_size=12), st.booleans())
def test_any_sequence_of_writes_is_undone(names: list[str], interrupted: bool) -> None:
    world = World({"W": np.arange(3.0)})
    params, W, log, cache = world.params, world.W, world.log, world.cache
    next_random = np.random.get_state(legacy=False)
    try:
        with keep(lambda params: world, params):
            for name in names:
                if name != "array" or isinstance(world.W, np.ndarray):
                    WRITES[name](world)
            if interrupted:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert interrupted
    assert vars(world) == {"params": params, "W": W, "log": log, "cache": cache}
    assert (world.log, world.cache) == ([], {"Z": 1})
    assert world.W is W is params["W"]
    assert W.tolist() == [0, 1, 2]
    state = np.random.get_state(legacy=False)["state"]
    np.testing.assert_equal(state, next_random["state"])


# -- modules ---------------------------------------------------------------------------------------


@pytest.fixture
def module_of_mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the user's own with its network, its data and its functions."""
    (tmp_path / "network_of_mine.py").write_text(
        "import numpy as np\n"
        "W = np.ones(3)\n"
        "count = 0\n"
        "params = {'W': W}\n"
        "class Net: pass\n"
        "net = Net()\n"
        "net.W = W\n"
        "def put(value):\n"
        "    global W\n"
        "    W = value\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("network_of_mine")
    del sys.modules["network_of_mine"]


def _attribute(p: Any, m: Any) -> None:
    m.W = p


def _new_attribute(p: Any, m: Any) -> None:
    m.fresh = p


def _counter(p: Any, m: Any) -> None:
    m.count += 1


def _in_a_dict(p: Any, m: Any) -> None:
    m.params["W"] = p


def _on_an_object(p: Any, m: Any) -> None:
    m.net.W = p


def _in_place(p: Any, m: Any) -> None:
    m.W[...] = p


def _by_a_function(p: Any, m: Any) -> None:
    m.put(p)


WAYS = (
    *(_attribute, _new_attribute, _counter, _in_a_dict, _on_an_object, _in_place),
    _by_a_function,
)


@pytest.mark.parametrize("write", WAYS)
@pytest.mark.parametrize("reached", ["global", "closure", "import", "object"])
def test_what_a_loss_writes_through_a_module_is_put_back(
    write: Any, reached: str, module_of_mine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = module_of_mine
    namespace = SimpleNamespace(module=module_of_mine)
    monkeypatch.setitem(globals(), "a_module", module_of_mine)

    def by_global(p: Any) -> None:
        write(p, a_module)  # noqa: F821

    def by_closure(p: Any) -> None:
        write(p, held)

    def by_import(p: Any) -> None:
        import network_of_mine

        write(p, network_of_mine)

    def by_object(p: Any) -> None:
        write(p, namespace.module)

    loss = {"global": by_global, "closure": by_closure, "import": by_import, "object": by_object}
    before = dict(vars(module_of_mine))
    W = module_of_mine.W
    with keep(loss[reached], np.zeros(3)):
        loss[reached](np.full(3, 7.0))
    now = vars(module_of_mine)
    assert now.keys() == before.keys()
    assert all(now[name] is before[name] for name in before)
    assert module_of_mine.params["W"] is module_of_mine.net.W is W
    np.testing.assert_array_equal(W, np.ones(3))


def test_a_module_that_a_loss_imports_stays_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "late.py").write_text("value = 2.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("package_of_mine")

    def loss(p: Any) -> Any:
        import package_of_mine.late

        return package_of_mine.late.value * p.sum() + len(mine.__name__)

    with keep(loss, np.zeros(3)):
        loss(np.ones(3))
    assert mine.late.value == 2.0
    for name in ("package_of_mine.late", "package_of_mine"):
        del sys.modules[name]


def test_a_check_again_and_again_of_a_network_in_a_module(module_of_mine: Any) -> None:
    m = module_of_mine

    def loss(p: Any) -> Any:
        m.W = p
        return np.sum(np.sin(m.W))

    for _ in range(3):
        assert fastcheck.check(loss, m.W, np.cos(m.W))
    assert type(m.W) is np.ndarray
