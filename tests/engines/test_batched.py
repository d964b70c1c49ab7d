"""The batched engine: stacks through the user's own function, and every way that can go wrong."""

from __future__ import annotations

import ctypes
import itertools
import tracemalloc
from collections import OrderedDict, namedtuple
from time import perf_counter, sleep

import numpy as np
import pytest

import fastcheck
from fastcheck.engines.batched import BatchedEngine
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.engines.stack_size import Room, StackSize
from fastcheck.engines.stacked_loss import StackedLoss
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree
from fastcheck.verdict.noise import estimate_noise

rng = np.random.default_rng(0)
X = rng.standard_normal((12, 6))
Y = np.eye(3)[rng.integers(0, 3, 12)]
PARAMS = {
    "W1": rng.standard_normal((6, 5)),
    "b1": rng.standard_normal(5),
    "W2": rng.standard_normal((5, 3)),
    "b2": rng.standard_normal(3),
}


def log_softmax(Z):
    Z = Z - Z.max(axis=-1, keepdims=True)
    return Z - np.log(np.exp(Z).sum(axis=-1, keepdims=True))


def single(p):
    A = np.tanh(X @ p["W1"] + p["b1"])
    return -np.sum(Y * log_softmax(A @ p["W2"] + p["b2"])) / len(X)


def stacked(p):
    A = np.tanh(X @ p["W1"] + p["b1"][:, None])
    return -np.sum(Y * log_softmax(A @ p["W2"] + p["b2"][:, None]), axis=(1, 2)) / len(X)


def gradients(p):
    A = np.tanh(X @ p["W1"] + p["b1"])
    dZ = (np.exp(log_softmax(A @ p["W2"] + p["b2"])) - Y) / len(X)
    dH = dZ @ p["W2"].T * (1 - A**2)
    return {"W1": X.T @ dH, "b1": dH.sum(axis=0), "W2": A.T @ dZ, "b2": dZ.sum(axis=0)}


def engine_of(function, params, memory=10**8):
    tree = ParamTree.from_user(params)
    loss = StackedLoss(function, tree)
    loop = LoopEngine(loss, tree)

    def noise():
        return estimate_noise(loss, tree, np.random.default_rng(0))

    return BatchedEngine(loss, tree, loop, memory, noise), loss, tree


def loop_of(function, params):
    tree = ParamTree.from_user(params)
    return LoopEngine(LossFunction(function, tree), tree)


def cubes(p):
    return np.sum(p["W"] ** 3, axis=(1, 2)) + np.sum(p["b"], axis=1)


CUBE = {"W": np.arange(1.0, 7.0).reshape(2, 3), "b": np.ones(2)}
EVERY = np.arange(6)
HALF = np.full(6, 0.5)
PLUS = (np.arange(1.0, 7.0) + 0.5) ** 3 - np.arange(1.0, 7.0) ** 3
MINUS = np.arange(1.0, 7.0) ** 3 - (np.arange(1.0, 7.0) - 0.5) ** 3


def assert_cubes(engine):
    d = engine.differences("W", EVERY, HALF)
    np.testing.assert_allclose(d.plus, PLUS, rtol=1e-12)
    np.testing.assert_allclose(d.minus, MINUS, rtol=1e-12)
    b = engine.differences("b", np.arange(2), np.full(2, 0.5))
    np.testing.assert_allclose(b.plus, [0.5, 0.5], rtol=1e-12)


# Differences


@pytest.mark.parametrize("central", [True, False])
@pytest.mark.parametrize("name", PARAMS)
def test_differences_are_those_of_the_loop(name, central):
    engine, _, _ = engine_of(stacked, PARAMS)
    indices = rng.permutation(np.tile(np.arange(PARAMS[name].size), 3))
    steps = 10.0 ** rng.uniform(-4, 0, len(indices))
    ours = engine.differences(name, indices, steps, central=central)
    theirs = loop_of(single, PARAMS).differences(name, indices, steps, central=central)
    for field in ("plus", "minus"):
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), atol=1e-14)
    for field in ("step_plus", "step_minus", "kinked"):
        np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))


def test_a_stack_stands_for_many_calls():
    engine, loss, _ = engine_of(stacked, PARAMS)
    engine.differences("W1", np.arange(30), np.full(30, 0.1))
    before = loss.calls
    d = engine.differences("W1", np.tile(np.arange(30), 20), np.full(600, 0.1))
    assert loss.calls - before == d.loss_calls < 120


def test_no_indices_are_no_differences():
    engine, _, _ = engine_of(stacked, PARAMS)
    d = engine.differences("W1", np.zeros(0, dtype=np.int64), np.zeros(0))
    assert d.plus.shape == d.minus.shape == d.step_minus.shape == (0,)


@pytest.mark.parametrize(
    "params",
    [
        np.arange(1.0, 7.0).reshape(2, 3),
        np.asfortranarray(np.arange(1.0, 7.0).reshape(2, 3)),
        np.arange(1.0, 25.0).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(1.0, 13.0)[::2],
        np.array(3.0),
    ],
    ids=["C", "Fortran", "transposed", "strided", "0-d"],
)
def test_indices_count_in_c_order_whatever_the_layout(params):
    weights = rng.standard_normal(params.shape)
    engine, _, _ = engine_of(lambda p: np.sum((weights * p).reshape(len(p), -1), axis=1), params)
    d = engine.differences("params", np.arange(params.size), np.full(params.size, 0.5))
    np.testing.assert_allclose(d.plus / 0.5, weights.ravel(), rtol=1e-10)


def test_python_floats_are_arrays_of_one_number_a_copy():
    shapes = set()

    def loss(p):
        shapes.add((p["a"].shape == p["b"].shape == p["W"].shape[:1], p["W"].shape[1:]))
        return p["a"] ** 2 + p["b"] * p["W"].sum(axis=1)

    engine, _, _ = engine_of(loss, {"a": 3.0, "b": np.float64(2.0), "W": np.ones(4)})
    assert engine.differences("a", np.array([0]), np.array([0.5])).plus[0] == 3.5**2 - 9
    assert engine.differences("b", np.array([0]), np.array([0.5])).plus[0] == 2.0
    np.testing.assert_array_equal(engine.differences("W", np.arange(4), np.ones(4)).plus, 2.0)
    assert shapes == {(True, (4,))}


def test_containers_are_those_of_the_user_and_arrays_have_a_leading_axis():
    Layer = namedtuple("Layer", "W b")
    seen = set()

    def loss(p):
        layer = p["layers"][0]
        seen.add((type(p), type(p["layers"]), type(layer), layer.W.dtype, layer.W.ndim))
        return layer.W.sum(axis=(1, 2)) + layer.b + p["rest"][0].prod(axis=1)

    params = OrderedDict(layers=[Layer(np.ones((2, 3), np.float32), 1.0)], rest=(np.ones(2),))
    engine, _, _ = engine_of(loss, params)
    engine.differences("rest[0]", np.arange(2), np.ones(2))
    assert seen == {(OrderedDict, list, Layer, np.dtype(float), 3)}
    numeric = fastcheck.numerical_gradient(loss, params, batched=True)
    assert type(numeric["layers"][0]) is Layer
    np.testing.assert_allclose(numeric["layers"][0].W, 1, rtol=1e-8)


def test_a_loss_that_is_not_finite_for_some_copies_is_so_for_these_only():
    engine, _, _ = engine_of(
        lambda p: np.sum(np.sqrt(p["W"]), axis=1), {"W": np.array([1e-3, 1.0, 2.0])}
    )
    with np.errstate(invalid="ignore"):
        d = engine.differences("W", np.arange(3), np.full(3, 0.5))
    np.testing.assert_array_equal(np.isnan(d.minus), [True, False, False])
    assert np.isfinite(d.plus).all()


def test_losses_that_are_a_view_of_the_stack_or_a_buffer_are_copied():
    buffer = np.zeros(1000)

    def loss(p):
        out = buffer[: len(p["W"])]
        np.sum(p["W"] ** 3, axis=(1, 2), out=out)
        return out

    engine, _, _ = engine_of(loss, {"W": CUBE["W"]})
    np.testing.assert_allclose(engine.differences("W", EVERY, HALF).minus, MINUS, rtol=1e-12)
    engine, _, _ = engine_of(lambda p: p["W"][:, 1], {"W": np.array([3.0, 4.0])})
    d = engine.differences("W", np.arange(2), np.ones(2))
    np.testing.assert_array_equal(d.plus, [0, 1])


@pytest.mark.parametrize("convert", [np.float32, np.int64], ids=["float32", "int64"])
def test_losses_of_other_real_types_are_accepted(convert):
    _, loss, tree = engine_of(lambda p: (100 * p["W"].sum(axis=1)).astype(convert), np_params())
    assert loss.losses(tree.build({"W": np.ones((5, 2))}), 5).dtype == np.float64
    assert loss.unit_roundoff == (2.0**-24 if convert is np.float32 else 2.0**-53)


def np_params():
    return {"W": np.ones(2)}


# What comes back


@pytest.mark.parametrize(
    ("result", "kind", "found", "remedy"),
    [
        (lambda p: np.sum(p["W"]), InputError, "one number", r"e.g. .sum\(axis=\(1, 2\)\)"),
        (lambda p: float(np.sum(p["W"])), InputError, "one number", "all axes but the first"),
        (lambda p: p["W"].sum(axis=1)[:, None], InputError, r"\(1, 1\)", r".reshape\(-1\)"),
        (lambda p: p["W"], InputError, r"an array of shape \(1, 2\)", "all axes but the first"),
        (lambda p: p["W"].sum(axis=0), InputError, r"an array of shape \(2,\)", "the first"),
        (lambda p: None, InputTypeError, "None", "end the function with `return`"),
        (lambda p: (p["W"].sum(axis=1), {}), InputTypeError, "a tuple of 2", r"f\(p\)\[0\]"),
        (lambda p: [1.0], InputTypeError, "a list of 1", "np.array"),
        (lambda p: p["W"].sum(axis=1) + 0j, InputTypeError, "complex values", "real part"),
        (lambda p: p["W"].sum(axis=1) > 0, InputTypeError, "booleans", "not a comparison"),
        (lambda p: "text", InputTypeError, "an object of type str", "return an array"),
        (lambda p: np.array([None]), InputTypeError, "numpy.ndarray", "return an array"),
    ],
)
def test_anything_but_a_loss_for_each_copy_is_refused_with_the_remedy(result, kind, found, remedy):
    with pytest.raises(kind, match=rf"`loss` returned .*{found}.* for a stack of 1 copy") as error:
        fastcheck.numerical_gradient(result, np_params(), batched=True)
    assert "an array of shape (1,)" in str(error.value)
    error.match(remedy)


def test_a_result_that_does_not_grow_with_the_stack_is_refused():
    with pytest.raises(InputError, match=r"shape \(1,\) for a stack of 7 copies.*shape \(7,\)"):
        fastcheck.numerical_gradient(
            lambda p: np.atleast_1d(np.sum(p["W"])), np_params(), batched=True
        )


def test_a_loss_of_single_parameters_is_refused():
    with pytest.raises(InputError, match=r"one number for a stack of 1 copy: with batched=True"):
        fastcheck.check(single, PARAMS, gradients(PARAMS), batched=True)


def test_an_array_of_another_library_is_accepted_if_numpy_can_read_it():
    class Foreign:
        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def __array__(self, dtype=None, copy=None):
            return self.array

    engine, _, _ = engine_of(lambda p: Foreign(cubes(p)), CUBE)
    assert_cubes(engine)


def test_a_loss_that_is_not_finite_at_theta_is_an_error():
    with pytest.raises(InputError, match="`loss` is nan"):
        engine_of(lambda p: np.full(len(p["W"]), np.nan), np_params())


# Functions that write


def writes_all(p):
    value = cubes(p)
    p["W"] *= 0.5
    return value


def writes_the_other_tensor(p):
    value = cubes(p)
    p["b"][0] = 99.0
    return value


def rebinds(p):
    value = cubes(p)
    p["W"] = p["W"] + 1.0
    return value


def writes_to_large_stacks_only(p):
    value = cubes(p)
    if len(p["W"]) > 3:
        p["W"][:] = 0
    return value


def writes_past_the_flag(p):
    value = cubes(p)
    if len(p["W"]) > 3:
        ctypes.memset(p["W"].ctypes.data, 0, 8)
        ctypes.memset(p["b"].ctypes.data, 0, 8)
    return value


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (writes_all, ("W",)),
        (writes_the_other_tensor, ("b",)),
        (rebinds, ()),
        (writes_to_large_stacks_only, ()),
        (writes_past_the_flag, ("W", "b")),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_loss_that_writes_into_its_parameters_is_differentiated_right(loss, named):
    engine, _, tree = engine_of(loss, CUBE)
    assert_cubes(engine)
    assert_cubes(engine)
    assert engine.writes_params == named
    for tensor in tree:
        np.testing.assert_array_equal(tensor.value, CUBE[tensor.name])


def test_a_loss_that_writes_is_noted_in_the_report():
    grads = {"W": 3 * CUBE["W"] ** 2, "b": np.ones(2)}
    report = fastcheck.check(writes_all, CUBE, grads, batched=True)
    assert report.passed
    assert "`loss` writes into its argument (W); it was given copies." in report.notes
    report = fastcheck.check(writes_past_the_flag, CUBE, grads, batched=True)
    assert "`loss` writes into its argument (W, b); it was given copies." in report.notes
    assert fastcheck.check(cubes, CUBE, grads, batched=True).notes == ()


def test_what_is_handed_out_shares_memory_until_the_function_objects():
    seen = []

    def loss(p):
        if len(p["W"]) > 1:
            seen.append((p["b"].strides[0] > 0, p["b"].flags.writeable, p["W"].flags.writeable))
            if len(seen) > 5 and not seen[-1][1]:
                raise BufferError("read-only")
        return cubes(p)

    engine, _, _ = engine_of(loss, CUBE)
    d = engine.differences("W", np.tile(EVERY, 100), np.full(600, 0.5))
    np.testing.assert_allclose(d.plus, np.tile(PLUS, 100), rtol=1e-12)
    assert seen[:6] == [(False, False, False)] * 6
    assert seen[6:] == [(True, True, True)] * (len(seen) - 6) != []


def test_a_function_that_relies_on_a_reshape_being_a_view_gets_real_copies():
    def loss(p):
        flat = p["b"].reshape(-1)
        flat = flat if flat.flags.writeable else flat.copy()
        flat *= 2
        return cubes(p)

    engine, _, _ = engine_of(loss, CUBE)
    d = engine.differences("W", EVERY, HALF)
    np.testing.assert_allclose(d.plus, PLUS, rtol=1e-12)


# Errors of the function


def test_an_error_of_the_function_says_that_it_was_given_a_stack():
    def loss(p):
        return np.sum(X @ p["W1"] + p["b1"], axis=(1, 2)) + p["W2"] @ p["W2"]

    with pytest.raises(ValueError, match="matmul") as error:
        fastcheck.check(loss, PARAMS, gradients(PARAMS), batched=True)
    assert any("a stack of 1 copy: every array" in note for note in error.value.__notes__)


def test_an_error_beside_theta_says_which_tensor_was_moved():
    def loss(p):
        if (abs(p["b"] - 1) > 1e-3).any():
            raise ArithmeticError("outside")
        return cubes(p)

    with pytest.raises(ArithmeticError, match="outside") as error:
        fastcheck.numerical_gradient(loss, CUBE, batched=True)
    assert any("b moved a little away" in note for note in error.value.__notes__)
    assert any("a stack of 7 copies" in note for note in error.value.__notes__)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_stacks_right(error):
    calls = []

    def loss(p):
        calls.append(1)
        # An error is raised again in the second attempt, which is made with copies.
        if len(calls) == 12 or (len(calls) == 13 and error is ValueError):
            raise error
        return cubes(p)

    engine, _, tree = engine_of(loss, CUBE)
    with pytest.raises(error):
        engine.differences("W", np.tile(EVERY, 1000), np.full(6000, 0.5))
    assert_cubes(engine)
    assert engine.writes_params == ()
    np.testing.assert_array_equal(tree["W"].value, CUBE["W"])


def test_ctrl_c_leaves_the_users_arrays_as_they_were():
    params = {name: value.copy() for name, value in CUBE.items()}
    calls = itertools.count()

    def loss(p):
        if next(calls) == 40:
            raise KeyboardInterrupt
        return cubes(p)

    with pytest.raises(KeyboardInterrupt):
        fastcheck.check(loss, params, {"W": 3 * CUBE["W"] ** 2, "b": np.ones(2)}, batched=True)
    for name, value in params.items():
        np.testing.assert_array_equal(value, CUBE[name])


# Functions that mix copies


def centred_over_copies(p):
    return cubes({"W": p["W"] - p["W"].mean(axis=0), "b": p["b"]})


def divides_by_all(p):
    return cubes(p) / p["W"].size


def cumulative(p):
    return np.cumsum(cubes(p))


def reversed_copies(p):
    return cubes(p)[::-1]


def sum_to_all(p):
    return cubes(p) + 1e-6 * np.sum(p["b"])


def noise_by_place(p):
    return cubes(p) + np.random.default_rng(0).standard_normal(len(p["W"]))


def from_the_first(p):
    return np.full(len(p["W"]), cubes(p)[0])


def swaps_two(p):
    value = cubes(p)
    if len(value) > 4:
        value[[2, 4]] = value[[4, 2]]
    return value


def wrong_reshape(p):
    W = p["W"].reshape(3, -1, 2) if len(p["W"]) % 2 else p["W"]
    return np.sum(W.reshape(len(p["W"]), -1) ** 3, axis=1) * len(p["W"]) + p["b"].sum(axis=1)


@pytest.mark.parametrize(
    "loss",
    [
        centred_over_copies,
        divides_by_all,
        cumulative,
        reversed_copies,
        sum_to_all,
        noise_by_place,
        from_the_first,
        swaps_two,
        wrong_reshape,
    ],
    ids=lambda loss: loss.__name__,
)
def test_a_function_that_mixes_copies_is_refused(loss):
    with pytest.raises(InputError, match=r"mixes the copies.*copy \d of a stack of 7 has") as error:
        fastcheck.numerical_gradient(loss, CUBE, batched=True)
    error.match("must depend on that copy alone, not on the others or on its place")


def test_a_function_that_mixes_copies_of_large_stacks_only_is_refused():
    def loss(p):
        sleep(1e-3)  # so that large stacks are worth it
        value = cubes(p)
        value[30:] = value[:30].mean()
        return value

    engine, _, _ = engine_of(loss, CUBE)
    with pytest.raises(InputError, match=r"mixes the copies.*copy \d\d of a stack of \d\d"):
        engine.differences("W", np.tile(EVERY, 64), np.full(384, 0.5))


@pytest.mark.parametrize("arithmetic", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_rounding_that_depends_on_the_stack_is_not_mixing(arithmetic):
    def loss(p):
        low = {name: value.astype(arithmetic) for name, value in p.items()}
        order = slice(None, None, -1 if len(p["W1"]) > 1 else 1)
        A = np.tanh(X.astype(arithmetic) @ low["W1"] + low["b1"][:, None])
        Z = log_softmax(A @ low["W2"] + low["b2"][:, None])
        terms = (Y.astype(arithmetic) * Z).sum(axis=2)[:, order]
        return -np.cumsum(terms, axis=1)[:, -1].astype(float) / len(X)

    report = fastcheck.check(loss, PARAMS, gradients(PARAMS), batched=True)
    assert report.verdict is not fastcheck.Verdict.FAIL
    assert report.tensors["W1"].engine == "batched"


def test_a_shift_by_the_maximum_of_all_copies_is_no_mixing():
    def loss(p):
        Z = np.tanh(X @ p["W1"] + p["b1"][:, None]) @ p["W2"] + p["b2"][:, None]
        Z = Z - Z.max()
        return -np.sum(Y * (Z - np.log(np.exp(Z).sum(axis=2, keepdims=True))), axis=(1, 2)) / 12

    assert fastcheck.check(loss, PARAMS, gradients(PARAMS), batched=True)


# Memory


def test_memory_for_less_than_one_copy_is_refused():
    with pytest.raises(InputError, match=r"`memory` is 60 bytes.*needs 64 bytes"):
        fastcheck.check(cubes, CUBE, {"W": CUBE["W"], "b": CUBE["b"]}, memory=60, batched=True)


def test_memory_for_one_copy_is_enough():
    def loss(p):
        assert len(p["W"]) == 1
        return cubes(p)

    grads = {"W": 3 * CUBE["W"] ** 2, "b": np.ones(2)}
    assert fastcheck.check(loss, CUBE, grads, memory=64, batched=True)


def watching(function, sizes):
    def loss(p):
        sizes.add(len(next(iter(p.values()))))
        return function(p)

    return loss


def test_stacks_of_parameters_fit_the_memory():
    sizes = set()
    engine, _, _ = engine_of(watching(lambda p: p["W"].sum(axis=1), sizes), {"W": np.ones(1000)})
    engine.differences("W", np.arange(500), np.ones(500))
    engine, _, _ = engine_of(
        watching(lambda p: p["W"].sum(axis=1), few := set()), {"W": np.ones(1000)}, memory=40_000
    )
    engine.differences("W", np.arange(500), np.ones(500))
    assert max(sizes) > 5
    assert max(few) == 5


def test_what_the_function_itself_takes_is_counted():
    sizes = set()

    def greedy(p):
        temporary = np.ones((len(p["W"]), 125_000))  # 1 MB a copy
        return temporary[:, 0] * p["W"].sum(axis=1)

    engine, _, _ = engine_of(watching(greedy, sizes), np_params(), memory=9_600_000)
    engine.differences("W", np.tile([0, 1], 100), np.ones(200))
    assert max(sizes) in (8, 9)
    assert not tracemalloc.is_tracing()


def test_a_measurement_of_memory_by_the_user_is_left_alone():
    tracemalloc.start()
    try:
        engine, _, _ = engine_of(cubes, CUBE)
        assert_cubes(engine)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [1, 2, 5, 20])
def test_where_memory_runs_out_stacks_are_halved(most):
    sizes = []

    def loss(p):
        sizes.append(len(p["W"]))
        if len(p["W"]) > most:
            p["W"].flags.writeable = False
            raise MemoryError("no more")
        return cubes(p)

    engine, _, _ = engine_of(loss, CUBE)
    indices = np.tile(EVERY, 50)
    d = engine.differences("W", indices, np.full(300, 0.5))
    np.testing.assert_allclose(d.plus, np.tile(PLUS, 50), rtol=1e-12)
    np.testing.assert_allclose(d.minus, np.tile(MINUS, 50), rtol=1e-12)
    assert sum(size > most for size in sizes) <= 3


def test_where_one_copy_does_not_fit_memory_is_named():
    calls = itertools.count()

    def loss(p):
        if next(calls) > 3:
            raise MemoryError("no more")
        return cubes(p)

    engine, _, _ = engine_of(loss, CUBE)
    with pytest.raises(InputError, match=r"a single copy.*\(MemoryError: no more\); `memory`"):
        engine.differences("W", EVERY, HALF)


@pytest.mark.parametrize("after", [0, 1])
def test_where_not_even_the_loss_at_the_parameters_fits_memory_is_named(after):
    calls = itertools.count()

    def loss(p):
        if next(calls) >= after:
            raise MemoryError("no more")
        return np.sum(p["W"] ** 2, axis=1)

    params = {"W": np.array([2.0, -1.0])}
    for check in (
        lambda: fastcheck.check(loss, params, params, batched=True),
        lambda: fastcheck.numerical_gradient(loss, params, batched=True),
    ):
        calls = itertools.count()
        with pytest.raises(
            InputError, match=r"batched=True\) does not fit.*`memory` cannot"
        ) as hit:
            check()
        assert isinstance(hit.value.__cause__, MemoryError)


# The size of stacks


def test_stacks_grow_while_the_time_of_a_copy_falls():
    size = StackSize(Room(10**9, 8))
    seen = []
    while not size.settled:
        seen.append(size.copies)
        size.took(size.copies, 1e-3 + 1e-5 * size.copies + 1e-7 * size.copies**2)
    assert seen[:6] == [8, 16, 32, 64, 128, 128]
    assert size.copies == 64


def test_a_short_stack_says_nothing_about_the_size():
    size = StackSize(Room(10**9, 8))
    size.took(3, 1.0)
    assert (size.copies, size.settled) == (8, False)


def test_stacks_do_not_outgrow_the_room():
    size = StackSize(Room(200, 8))
    for _ in range(3):
        size.took(size.copies, 1e-3)
    assert (size.copies, size.settled) == (25, True)


# The front door


@pytest.mark.parametrize("method", ["central", "forward"])
def test_a_right_gradient_passes(method):
    report = fastcheck.check(stacked, PARAMS, gradients(PARAMS), batched=True, method=method)
    assert report.passed
    assert {t.engine for t in report.tensors.values()} == {"batched"}
    reasons = {t.engine_reason for t in report.tensors.values()}
    assert reasons == {"`loss` takes stacks of copies (batched=True)"}


@pytest.mark.parametrize("method", ["central", "forward"])
@pytest.mark.parametrize("name", PARAMS)
def test_one_wrong_element_fails(name, method):
    grads = gradients(PARAMS)
    place = tuple(n - 1 for n in grads[name].shape)
    grads[name][place] += 1e-3 * np.abs(grads[name]).max()
    report = fastcheck.check(stacked, PARAMS, grads, batched=True, method=method)
    failed = [t.name for t in report.tensors.values() if t.verdict is fastcheck.Verdict.FAIL]
    assert failed == [name]
    assert report.tensors[name].worst.index == place


def test_the_gradient_may_be_a_function_of_single_parameters():
    def grads(p):
        assert p["W1"].shape == (6, 5)
        return gradients(p)

    assert fastcheck.check(stacked, PARAMS, grads, batched=True)


def test_selected_elements_only():
    grads = gradients(PARAMS)
    grads["W1"][0, 1] = 9.0
    report = fastcheck.check(stacked, PARAMS, grads, batched=True, select={"W1": [0, 2, 3]})
    assert report.passed
    assert report.tensors["W1"].checked == 3
    assert not fastcheck.check(stacked, PARAMS, grads, batched=True, select={"W1": [0, 1]})


def test_float32_parameters():
    params = {name: value.astype(np.float32) for name, value in PARAMS.items()}
    grads = gradients({name: value.astype(float) for name, value in params.items()})
    assert fastcheck.check(stacked, params, grads, batched=True)
    grads["b2"][1] *= 1.01
    assert not fastcheck.check(stacked, params, grads, batched=True)


def test_a_bare_array_and_a_list():
    target = rng.standard_normal(4)
    assert fastcheck.check(
        lambda w: np.sum((w - target) ** 2, axis=1), np.ones(4), 2 * (1 - target), batched=True
    )
    numeric = fastcheck.numerical_gradient(
        lambda p: p[0].sum(axis=1) * p[1], [np.ones(3), 2.0], batched=True
    )
    np.testing.assert_allclose(numeric[0], 2, rtol=1e-8)
    np.testing.assert_allclose(numeric[1], 3, rtol=1e-8)


def test_the_numerical_gradient_is_that_of_the_loop():
    ours = fastcheck.numerical_gradient(stacked, PARAMS, batched=True, step=1e-5)
    theirs = fastcheck.numerical_gradient(single, PARAMS, engine="loop", step=1e-5)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, atol=1e-9)


def test_nothing_is_traced():
    def loss(p):
        assert type(p["W1"]) is np.ndarray
        return stacked(p)

    assert fastcheck.check(loss, PARAMS, gradients(PARAMS), batched=True)


def test_randomness_is_refused():
    def loss(p):
        return cubes(p) * np.random.default_rng().uniform(0.9, 1.1, len(p["W"]))

    with pytest.raises(InputError, match=r"two different values.*Hold its randomness still"):
        fastcheck.check(loss, CUBE, CUBE, batched=True)


@pytest.mark.parametrize("engine", ["loop", "replay", "fused"])
def test_another_engine_is_refused(engine):
    with pytest.raises(InputError, match=f"`engine` is '{engine}'.*leave engine='auto'"):
        fastcheck.check(stacked, PARAMS, gradients(PARAMS), batched=True, engine=engine)


def test_float32_stacks_are_refused():
    with pytest.raises(InputError, match=r"`precision` is 'float32'.*leave precision='float64'"):
        fastcheck.explain(stacked, PARAMS, batched=True, precision="float32")


def test_explain_says_what_would_be_done():
    explanation = fastcheck.explain(stacked, PARAMS, batched=True, memory="1MB")
    assert explanation.graph == ()
    assert explanation.refusal == "`loss` takes stacks of copies (batched=True)"
    plan = explanation.tensors[0]
    assert plan.engine == "batched"
    assert plan.chunk >= 4
    assert 0 < plan.bytes_per_chunk <= 10**6
    assert 0 < plan.seconds < plan.estimates["loop"]
    page = str(explanation)
    assert "batched: `loss` takes stacks of copies (batched=True)" in page
    assert "parameters a chunk" in page
    assert "operations" not in page


def test_stacks_are_several_times_as_quick_as_the_loop_where_python_takes_the_time():
    indices, steps = np.tile(np.arange(30), 50), np.full(1500, 1e-5)
    loop, (batched, _, _) = loop_of(single, PARAMS), engine_of(stacked, PARAMS)
    one_by_one = least_seconds(lambda: loop.differences("W1", indices, steps))
    assert least_seconds(lambda: batched.differences("W1", indices, steps)) < one_by_one / 3


def least_seconds(action):
    def seconds():
        start = perf_counter()
        action()
        return perf_counter() - start

    return min(seconds() for _ in range(5))


# CuPy arrays, with a stand-in for CuPy


def test_cupy_parameters_are_stacks_of_cupy_arrays(standin_cupy):
    standin_cupy()
    import cupy

    data = cupy.asarray(X)

    def loss(p):
        assert type(p["W"]) is type(p["b"]) is cupy.ndarray
        return cupy.sum(cupy.tanh(data @ p["W"] + p["b"][:, None]) ** 2, axis=(1, 2))

    W, b = PARAMS["W1"], PARAMS["b1"]
    params = {"W": cupy.asarray(W), "b": cupy.asarray(b)}
    A = np.tanh(X @ W + b)
    d = 2 * A * (1 - A**2)
    grads = {"W": X.T @ d, "b": d.sum(axis=0)}
    report = fastcheck.check(loss, params, grads, batched=True)
    assert report.passed
    grads["b"][2] *= 1.001
    assert not fastcheck.check(loss, params, grads, batched=True)


def test_a_loss_that_writes_into_cupy_stacks_is_noticed(standin_cupy):
    standin_cupy()
    import cupy

    def loss(p):
        value = (p["W"] ** 3).sum(axis=(1, 2)) + p["b"].sum(axis=1)
        p["W"] *= 0.5
        p["b"][:] = 0
        return value

    engine, _, _ = engine_of(loss, {name: cupy.asarray(value) for name, value in CUBE.items()})
    assert_cubes(engine)
    assert engine.writes_params == ("W", "b")


def test_where_the_memory_of_a_gpu_runs_out_stacks_are_halved(standin_cupy):
    standin_cupy(limit=600_000)
    import cupy

    seen = []

    def loss(p):
        seen.append(len(p["W"]))
        sleep(1e-3)  # so that large stacks are worth it
        return ((p["W"] + 1) * 2).sum(axis=1)

    engine, _, _ = engine_of(loss, {"W": cupy.asarray(np.arange(1000.0))}, memory=10**9)
    d = engine.differences("W", np.arange(1000), np.ones(1000))
    np.testing.assert_array_equal(d.plus, 2)
    assert 8 <= max(seen) < 75


def test_a_gpu_for_numpy_parameters_is_refused(standin_cupy):
    standin_cupy()
    with pytest.raises(InputError, match=r"`device` is gpu:0.*NumPy arrays like `params`"):
        fastcheck.check(stacked, PARAMS, gradients(PARAMS), batched=True, device="gpu")


def test_numpy_and_cupy_arrays_may_be_mixed(standin_cupy):
    standin_cupy()
    import cupy

    def loss(p):
        assert type(p["W"]) is cupy.ndarray
        return cubes({"W": p["W"].get(), "b": p["b"]})

    engine, _, _ = engine_of(loss, {"W": cupy.asarray(CUBE["W"]), "b": CUBE["b"]})
    assert_cubes(engine)
    assert engine.device == "gpu:0"
