"""The compiled engine: losses compiled by Numba, and every way in which they may be called."""

from __future__ import annotations

import functools
import signal
import threading
from collections import namedtuple
from time import sleep

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcheck
from fastcheck.engines import compiled, compiled_plan
from fastcheck.engines.compiled_calls import observe
from fastcheck.engines.compiled_overload import Unusable
from fastcheck.engines.compiled_plan import CompiledPlanner
from fastcheck.engines.compiled_threads import obstacle_to_threads
from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import InputError
from fastcheck.params import ParamTree

numba = pytest.importorskip("numba")
njit = numba.njit

rng = np.random.default_rng(0)
X = rng.standard_normal((6, 12))
Y = np.eye(3)[rng.integers(0, 3, 12)].T.copy()
PARAMS = {"W": rng.standard_normal((3, 6)), "b": rng.standard_normal((3, 1))}


@njit
def softmax_loss(W, b, X, Y, decay=0.0):
    total = 0.0
    z = np.empty(W.shape[0])
    for sample in range(X.shape[1]):
        for row in range(W.shape[0]):
            z[row] = b[row, 0]
            for column in range(W.shape[1]):
                z[row] += W[row, column] * X[column, sample]
        high = z.max()
        total -= (Y[:, sample] * (z - high - np.log(np.exp(z - high).sum()))).sum()
    return total / X.shape[1] + decay * (W * W).sum()


def of_dict(p):
    return softmax_loss(p["W"], p["b"], X, Y)


def gradients(p):
    Z = p["W"] @ X + p["b"]
    E = np.exp(Z - Z.max(axis=0))
    dZ = (E / E.sum(axis=0) - Y) / X.shape[1]
    return {"W": dZ @ X.T, "b": dZ.sum(axis=1, keepdims=True)}


@njit
def sine(theta):
    total = 0.0
    for number, value in enumerate(theta.flat):
        total += np.sin(value + number)
    return total


@njit
def of_two(pair):
    return (pair[0] ** 3).sum() + pair[1].sum() * pair[0].sum()


def planner_of(function, params, wanted=True, memory=10**8):
    tree = ParamTree.from_user(params)
    loss = LossFunction(function, tree)
    loop = LoopEngine(loss, tree)
    planner = CompiledPlanner(
        loss,
        tree,
        loop,
        wanted=wanted,
        memory=memory,
        noise=lambda: 0.0,
        rng=np.random.default_rng(0),
    )
    return planner, loop, tree, loss


def engine_of(function, params, memory=10**8):
    planner, loop, tree, loss = planner_of(function, params, memory=memory)
    for tensor in tree:
        engine = planner.assign(tensor, tensor.size, False).engine
        assert engine.name == "compiled"
    return engine, loop, tree, loss


def assert_equal_to_loop(function, params, memory=10**8):
    """Every difference is the loop's, to the last bit; return the engine."""
    engine, loop, tree, _ = engine_of(function, params, memory)
    for tensor in tree:
        indices = np.arange(tensor.size)
        steps = 0.3 + 0.1 * rng.random(tensor.size)
        ours = engine.differences(tensor.name, indices, steps)
        theirs = loop.differences(tensor.name, indices, steps)
        for part in ("plus", "minus", "step_plus", "step_minus", "kinked"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(theirs, part))
        assert ours.loss_calls == 2 * tensor.size
    return engine


# -- what it computes -----------------------------------------------------------------------------


def test_differences_are_the_loops_to_the_last_bit():
    assert_equal_to_loop(of_dict, PARAMS)


def test_a_right_gradient_passes_and_a_planted_bug_fails():
    of_dict(PARAMS)
    right = fastcheck.check(of_dict, PARAMS, gradients(PARAMS), engine="compiled")
    assert right.passed
    assert {tensor.engine for tensor in right.tensors.values()} == {"compiled"}
    wrong = gradients(PARAMS)
    wrong["W"][1, 2] *= 1.001
    report = fastcheck.check(of_dict, PARAMS, wrong, engine="compiled")
    assert report.verdict.value == "fail"
    assert report.tensors["W"].worst.index == (1, 2)
    assert report.tensors["b"].verdict.value == "pass"


def test_the_report_says_why_and_counts_the_calls():
    report = fastcheck.check(of_dict, PARAMS, gradients(PARAMS), engine="compiled")
    assert (
        "`loss` computes in `softmax_loss`, compiled by Numba" in report.tensors["W"].engine_reason
    )
    assert "compiled engine" in str(report)
    assert report.loss_calls > 2 * 21
    assert report.tensors["W"].loss_calls >= 36


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_function_of_one_array_needs_no_wrapper(dtype, order):
    theta = np.asarray(rng.standard_normal((4, 5)), dtype=dtype, order=order)
    report = fastcheck.check(
        sine, theta, np.cos(theta + np.arange(20).reshape(4, 5)), engine="compiled"
    )
    assert report.passed


Pair = namedtuple("Pair", "W b")


@pytest.mark.parametrize("make", [tuple, Pair._make], ids=["tuple", "namedtuple"])
def test_a_function_of_a_tuple_of_arrays(make):
    assert_equal_to_loop(of_two, make([rng.standard_normal((2, 3)), rng.standard_normal(4)]))


def test_forward_differences():
    engine, loop, _, _ = engine_of(of_dict, PARAMS)
    indices, steps = np.array([7, 0, 7]), np.array([0.1, 0.2, 0.3])
    ours = engine.differences("W", indices, steps, central=False)
    theirs = loop.differences("W", indices, steps, central=False)
    np.testing.assert_array_equal(ours.plus, theirs.plus)
    np.testing.assert_array_equal(ours.minus, np.zeros(3))
    assert ours.loss_calls == 3


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    layout=st.sampled_from(["C", "F", "gaps", "reversed"]),
    seed=st.integers(0, 100),
)
def test_any_shape_dtype_and_layout(shape, dtype, layout, seed):
    values = np.random.default_rng(seed).standard_normal([2 * n for n in shape]).astype(dtype)
    theta = {
        "C": lambda: values[: shape[0], : shape[1]].copy(),
        "F": lambda: np.asfortranarray(values[: shape[0], : shape[1]]),
        "gaps": lambda: values[::2, ::2],
        "reversed": lambda: values[: shape[0], : shape[1]][::-1],
    }[layout]()
    numerical = fastcheck.numerical_gradient(sine, theta, engine="compiled")
    exact = np.cos(theta.astype(float) + np.arange(theta.size).reshape(theta.shape))
    np.testing.assert_allclose(numerical, exact, atol=1e-6)


def test_an_empty_tensor_beside_others():
    params = {"W": PARAMS["W"], "none": np.zeros((0, 2))}

    @njit
    def loss(W, none):
        return np.sin(W).sum() + none.sum()

    found = fastcheck.numerical_gradient(lambda p: loss(**p), params, engine="compiled")
    np.testing.assert_allclose(found["W"], np.cos(PARAMS["W"]), atol=1e-7)
    assert found["none"].shape == (0, 2)


# -- around the compiled function -----------------------------------------------------------------


def test_views_of_a_flat_vector_are_arguments_too():
    def loss(theta):
        return softmax_loss(theta[:18].reshape(3, 6), theta[18:].reshape(3, 1), X, Y)

    theta = np.concatenate([PARAMS["W"].ravel(), PARAMS["b"].ravel()])
    assert_equal_to_loop(loss, theta)


def test_transposed_and_reversed_views():
    @njit
    def weighed(a, b):
        return (a * np.arange(6).reshape(2, 3)).sum() + (b[0] ** 2).sum()

    assert_equal_to_loop(lambda p: weighed(p["W"].T, p["W"][::-1]), {"W": np.ones((3, 2))})


@pytest.mark.parametrize(
    "function",
    [
        functools.partial(softmax_loss, b=PARAMS["b"], X=X, Y=Y),
        lambda W: softmax_loss(W, PARAMS["b"], Y=Y, X=X, decay=0.5),
        lambda W: softmax_loss(W, PARAMS["b"], X, Y, 1),
        lambda W: float(softmax_loss(W, PARAMS["b"], X, Y)),
        lambda W: 3 * softmax_loss(W, PARAMS["b"], X, Y) / X.shape[1] + 1,
        lambda W: np.sqrt(softmax_loss(W, 2 * PARAMS["b"], X[:, ::-1], Y)),
    ],
    ids=["partial", "keywords", "integer", "float", "arithmetic", "expressions"],
)
def test_thin_python_around_it(function):
    assert_equal_to_loop(function, PARAMS["W"])


def test_attributes_that_the_loss_sets():
    class Net:
        def loss(self, p):
            self.W, self.b = p["W"], p["b"]
            return softmax_loss(self.W, self.b, X, Y)

    net = Net()
    net.W = mine = np.ones(2)
    report = fastcheck.check(net.loss, PARAMS, gradients(PARAMS), engine="compiled")
    assert report.passed
    assert net.W is mine


def test_numbers_in_the_parameters_are_the_loops():
    params = {"W": PARAMS["W"], "decay": 0.1}

    def loss(p):
        return softmax_loss(p["W"], PARAMS["b"], X, Y, p["decay"])

    planner, loop, tree, _ = planner_of(loss, params, wanted=False)
    planner._worth = lambda saved, price, trial: True
    by = {t.name: planner.assign(t, t.size, False) for t in tree}
    assert by["W"].engine.name == "compiled"
    assert by["decay"].engine is loop
    assert "computed from decay in Python" in by["decay"].reason
    grads = {"W": gradients(PARAMS)["W"] + 0.2 * PARAMS["W"], "decay": (PARAMS["W"] ** 2).sum()}
    assert fastcheck.check(loss, params, grads).passed


def test_what_stays_of_a_tensor_in_python_is_left_to_the_loop():
    """The compiled function sees W; its penalty is added in Python, and so is b scaled."""

    def loss(p):
        data = softmax_loss(p["W"], 2 * p["b"], X, Y)
        return data + 0.5 * np.sum(p["b"] ** 2)

    planner, loop, tree, _ = planner_of(loss, PARAMS, wanted=False)
    planner._worth = lambda saved, price, trial: True
    by = {t.name: planner.assign(t, t.size, False) for t in tree}
    assert by["W"].engine.name == "compiled"
    assert by["b"].engine is loop
    W = tree["W"]
    ours, theirs = (
        one.differences("W", np.arange(W.size), np.full(W.size, 0.1)).plus
        for one in (by["W"].engine, loop)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-14)


# -- refusals -------------------------------------------------------------------------------------


@njit
def half(x):
    return 0.5 * x


@njit
def total(x):
    return x.sum()


def branching(p):
    return total(p) if p.sum() > 0 else 2 * total(p)


def clipped(p):
    loss = float(total(p))
    return loss if loss < 100.0 else 100.0


def strict(p):
    loss = total(p)
    if not np.isfinite(loss):
        raise ValueError("diverged")
    return loss


REFUSED = {
    "two calls": (lambda p: total(half(p)), "2 calls of compiled functions take part"),
    "branch": (branching, "Python looks at params before that"),
    "number": (clipped, "Python makes something else of some of its results"),
    "strict": (strict, r"Python does not take every result of it \(ValueError"),
    "computed": (lambda p: total(2 * p), "an argument of it is computed from params in Python"),
    "penalty": (lambda p: total(p) + np.sum(p**2), "params also takes another way to the loss"),
    "elsewhere": (lambda p: np.sum(p) + total(np.ones(2)), "calls no function compiled by Numba"),
    "NumPy": (lambda p: np.sum(p**2), "calls no function compiled by Numba"),
    "not a number": (lambda p: half(p).sum(), "Python computes more than a number of what `half`"),
    "list": (lambda p: of_two([p, p]), "reflected list"),
    "string": (lambda p: named(p, "relu"), "unicode_type"),
}


@njit
def named(x, kind):
    return x.sum() if kind == "relu" else 0.0


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore::numba.NumbaPendingDeprecationWarning")
def test_what_is_not_certain_is_the_loops(case):
    loss, why = REFUSED[case]
    if case == "elsewhere":
        why = "the parameters do not reach"
    params = np.arange(1.0, 5.0)
    with pytest.raises(InputError, match=why):
        fastcheck.numerical_gradient(loss, params, engine="compiled")
    looped = fastcheck.numerical_gradient(loss, params, engine="loop")
    np.testing.assert_allclose(fastcheck.numerical_gradient(loss, params), looped, rtol=1e-6)


def test_python_that_writes_into_the_parameters_is_the_loops():
    def loss(p):
        p *= 2
        return total(p)

    np.testing.assert_allclose(fastcheck.numerical_gradient(loss, np.ones(3)), [2, 2, 2])
    with pytest.raises(InputError, match="Python writes into the parameters before"):
        fastcheck.numerical_gradient(loss, np.ones(3), engine="compiled")


def test_a_cross_check_that_fails_leaves_the_tensor_to_the_loop():
    planner, loop, tree, _ = planner_of(sine, np.ones(4), wanted=False)
    planner._worth = lambda saved, price, trial: True
    planner._look()
    planner._make()
    right = planner._engine._losses
    planner._engine._losses = lambda *args: right(*args) * 1.001
    assignment = planner.assign(tree["params"], 4, False)
    assert assignment.engine is loop
    assert "the cross-check failed: moving params[" in assignment.reason


def test_a_loop_that_cannot_be_made_is_no_error(monkeypatch):
    def broken(*_):
        raise AttributeError("another version of Numba")

    monkeypatch.setattr(compiled, "Overload", broken)
    monkeypatch.setattr(compiled_plan.CompiledPlanner, "_worth", lambda *_: True)
    report = fastcheck.check(sine, np.zeros(300), np.cos(np.arange(300.0)))
    assert report.passed
    assert "no loop could be made (AttributeError" in report.tensors["params"].engine_reason


# -- errors ---------------------------------------------------------------------------------------


@njit
def refusing(x):
    if x[2] > 1.1:
        raise ValueError("outside of the domain")
    return x.sum()


def test_an_exception_reaches_the_user_as_the_loop_raises_it():
    notes = []
    for engine in ("compiled", "loop"):
        with pytest.raises(ValueError, match="outside of the domain") as caught:
            fastcheck.check(refusing, np.ones(4), np.ones(4), step=0.5, engine=engine)
        notes.append(caught.value.__notes__)
    assert notes[0] == notes[1]
    assert "moved a little away" in notes[0][0]


def test_a_loss_that_is_defined_near_the_parameters_only_is_checked_there():
    @njit
    def loss(x):
        if abs(x[0] - 1.0) > 1e-4:
            raise ValueError("too far away")
        return (x * x).sum()

    found = fastcheck.numerical_gradient(loss, np.ones(3), step=1e-6, engine="compiled")
    np.testing.assert_allclose(found, 2, rtol=1e-8)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_handed_on(bad):
    @njit
    def loss(x):
        return bad if x[1] > 1.1 else x.sum()

    engine, loop, _, _ = engine_of(loss, np.ones(3))
    ours, theirs = (e.differences("params", np.arange(3), np.full(3, 0.5)) for e in (engine, loop))
    np.testing.assert_array_equal(ours.plus, theirs.plus)
    assert not np.isfinite(ours.plus[1])


# -- writes ---------------------------------------------------------------------------------------


@njit
def scaling_in_place(x, n):
    for at in range(n):
        x[at] *= 2.0
    return (x * x).sum()


def test_a_loss_that_writes_into_its_argument_gets_it_restored():
    engine = assert_equal_to_loop(lambda p: scaling_in_place(p, len(p)), np.arange(1.0, 6.0))
    assert engine._fresh
    params = np.arange(1.0, 6.0)
    report = fastcheck.check(
        lambda p: scaling_in_place(p, len(p)), params, 8 * params, engine="compiled"
    )
    assert report.passed
    assert any("writes into its argument" in note for note in report.notes)
    np.testing.assert_array_equal(params, np.arange(1.0, 6.0))


@njit
def writing_late(x):
    """Writes only where an element has been moved up."""
    loss = x.sum()
    if x[3] > 1.1:
        x[0] = 5.0
    if x[2] > 1.1:
        x[2] = 7.0
    return loss


@pytest.mark.parametrize("element", [2, 3])
def test_writes_that_come_late_are_found_out(element):
    engine, loop, _, _ = engine_of(writing_late, np.ones(5))
    engine._fresh = False
    order = np.array([element, 0, 1, 4, element, 0])
    ours = engine.differences("params", order, np.full(6, 0.5))
    np.testing.assert_allclose(ours.plus, 0.5)
    np.testing.assert_allclose(ours.minus, 0.5)
    assert engine._fresh
    assert loop.writes_params == ("params",)


@njit
def with_workspace(x, space):
    for at in range(len(x)):
        space[at] += x[at] * x[at]
    return space[: len(x)].sum()


def test_an_array_made_for_every_call_is_as_new_in_every_call():
    engine = assert_equal_to_loop(lambda p: with_workspace(p, np.zeros(9)), np.arange(1.0, 6.0))
    assert engine._fresh


@njit
def into_buffer(x, buffer):
    buffer[:] = x
    return (buffer * buffer).sum()


def test_a_buffer_of_the_users_is_shared_by_no_two_threads():
    buffer = np.full(40, 7.0)
    theta = rng.standard_normal(40)
    engine = assert_equal_to_loop(lambda p: into_buffer(p, buffer), theta)
    assert engine._fresh
    buffer[:] = 7.0
    report = fastcheck.check(lambda p: into_buffer(p, buffer), theta, 2 * theta, engine="compiled")
    assert report.passed
    np.testing.assert_array_equal(buffer, np.full(40, 7.0))


@njit
def into_data_when_moved(x, data):
    if x[1] > 1.1:
        data[0] = 100.0
    return (x * data).sum()


def test_data_that_are_written_late_are_found_out():
    data = np.arange(1.0, 5.0)
    engine, loop, _, _ = engine_of(lambda p: into_data_when_moved(p, data.copy()), np.ones(4))
    # Whatever the cross-check has met, the next run starts as if nothing were known.
    order = np.array([1, 0, 2, 3, 0])
    ours = engine.differences("params", order, np.full(5, 0.5))
    theirs = loop.differences("params", order, np.full(5, 0.5))
    np.testing.assert_array_equal(ours.plus, theirs.plus)
    np.testing.assert_array_equal(ours.minus, theirs.minus)


# -- kinds of compiled functions ------------------------------------------------------------------


def test_explicit_signatures_of_any_layout():
    @njit("float64(float64[:,:], int64)")
    def loss(x, times):
        return times * np.sin(x).sum()

    assert_equal_to_loop(lambda p: loss(p, 3), rng.standard_normal((3, 2)))


def test_a_loss_in_float32_has_its_rounding():
    @njit
    def loss(x):
        return np.float32((x * x).sum())

    _, _, _, wrapped = engine_of(loss, np.ones(3))
    assert wrapped.unit_roundoff == 2.0**-24
    assert_equal_to_loop(loss, np.ones(3))


def test_an_integer_and_fastmath_and_recursion():
    scale = np.arange(1.0, 4.0)

    @njit(fastmath=True)
    def sums(x, at):
        return 0.0 if at == len(x) else x[at] ** 2 * scale[at] + sums(x, at + 1)

    assert_equal_to_loop(lambda p: sums(p, 0), rng.standard_normal(3))

    @njit
    def counted(x):
        return int(x.sum() > 0)

    assert_equal_to_loop(counted, np.array([0.1, 0.2]))


@njit(parallel=True)
def in_parallel(x):
    total = 0.0
    for at in numba.prange(len(x)):
        total += x[at] ** 3
    return total


@njit
def calls_parallel(x):
    return in_parallel(x) + 1.0


def test_a_parallel_function_is_called_from_one_thread():
    engine = assert_equal_to_loop(calls_parallel, rng.standard_normal(10))
    assert engine.team == 1
    assert obstacle_to_threads(calls_parallel) == "`in_parallel` is compiled with parallel=True"


def asked(x):
    return float(x)


@njit
def through_python(x):
    with numba.objmode(y="float64"):
        y = asked(x[0])
    return y * y + x[1]


def test_python_inside_is_called_from_one_thread(monkeypatch):
    monkeypatch.setattr(compiled, "threads", lambda: 8)
    for memory in (300, 10**8):
        engine = assert_equal_to_loop(through_python, np.array([2.0, 3.0]), memory)
        assert engine.team == 1
    assert "not known to be safe in threads" in engine.alone


@njit
def failing_in_python(x):
    with numba.objmode(y="float64"):
        y = float("not a number") if x[0] > 1.1 else 1.0
    return y * x[0]


def test_an_exception_of_python_inside_is_the_users():
    with pytest.raises(ValueError, match="could not convert"):
        fastcheck.check(failing_in_python, np.ones(2), np.ones(2), step=0.5, engine="compiled")


def test_functions_that_threads_may_run():
    @njit
    def helper(x):
        return np.exp(x) + np.linalg.norm(np.ones(3))

    @njit
    def outer(x):
        return helper(x.sum()) + len(X)

    assert obstacle_to_threads(outer) is None
    assert obstacle_to_threads(softmax_loss) is None


# -- threads, memory, interruptions ---------------------------------------------------------------


def test_threads_give_the_same(monkeypatch):
    theta = rng.standard_normal(400)
    found = []
    for team in (1, 2, 5):
        monkeypatch.setattr(compiled, "threads", lambda team=team: team)
        monkeypatch.setattr(compiled, "_WORTH_A_THREAD", 1e-9)
        engine, _, _, _ = engine_of(lambda p: with_workspace(p, np.zeros(400)), theta)
        assert engine.team == team
        found.append(engine.differences("params", np.arange(400), np.full(400, 1e-3)).plus)
        assert len(engine._workers) == team
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_memory_limits_the_threads_and_the_copies_of_data(monkeypatch):
    monkeypatch.setattr(compiled, "threads", lambda: 8)
    engine, _, _, _ = engine_of(sine, np.ones(1000), memory=20_000)
    assert engine.team == 2
    assert "`memory`" in engine.alone
    data = np.ones(10_000)

    @njit
    def loss(x, data):
        return (x * data[: len(x)]).sum()

    with pytest.raises(InputError, match="would not fit into `memory`"):
        engine_of(lambda p: loss(p, data), np.ones(3), memory=100_000)


@njit
def slow(x):
    total = 0.0
    for _ in range(2_000):
        total += np.sin(x).sum()
    return total


def test_an_interruption_leaves_nothing_running():
    engine, _, _, _ = engine_of(slow, np.ones(60))
    before = engine._calls()
    main = threading.get_ident()
    threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        engine.differences("params", np.arange(3000) % 60, np.full(3000, 1e-3))
    now = engine._calls()
    sleep(0.15)
    assert now == engine._calls()
    assert 0 < now - before < 6000
    assert all(not engine._layout.altered(worker.block) for worker in engine._workers)


def test_numbas_class_is_left_as_it_was():
    kind = type(softmax_loss)
    assert "__call__" not in vars(kind)
    _, _, tree, loss = planner_of(lambda p: np.sum(p), np.ones(2), wanted=False)
    with pytest.raises(Unusable):
        observe(loss, tree)
    assert "__call__" not in vars(kind)


# -- the choice -----------------------------------------------------------------------------------


def test_a_small_check_is_not_worth_a_loop_and_a_large_one_is(monkeypatch):
    monkeypatch.setattr(compiled_plan, "seconds_to_make", lambda dispatcher: 0.05)
    small = fastcheck.check(sine, np.zeros(3), np.cos(np.arange(3.0)))
    assert small.passed
    assert small.tensors["params"].engine == "loop"
    assert "would take longer to make" in small.tensors["params"].engine_reason
    large = fastcheck.explain(slow, np.ones(300))
    (plan,) = large.tensors
    assert plan.engine == "compiled"
    assert plan.estimates["compiled"] <= plan.estimates["loop"]
    assert "compiled: `loss` computes in `slow`" in str(large)


def test_small_checks_add_up(monkeypatch):
    monkeypatch.setattr(compiled_plan, "seconds_to_make", lambda dispatcher: 0.05)
    planner, _, tree, _ = planner_of(sine, np.ones(4), wanted=False)
    names = [planner.assign(tree["params"], 100, False).engine.name for _ in range(1000)]
    assert names[0] == "loop"
    assert names[-1] == "compiled"
    assert names == sorted(names, reverse=True)
    trial, _, tree, _ = planner_of(sine, np.ones(4), wanted=False)
    names = [trial.assign(tree["params"], 100, True).engine.name for _ in range(1000)]
    assert set(names) == {"loop"}


def test_nothing_is_compiled_while_the_loss_is_traced():
    """NumPy is not as Numba expects it then; and compiling is what takes the time."""

    @njit
    def loss(a):
        return (a * np.arange(6).reshape(2, 3)).sum()

    fastcheck.check(lambda p: loss(p[::-1]), np.ones((2, 3)), np.zeros((2, 3)), engine="compiled")
    assert len(loss.signatures) == 1


@numba.njit
def _row_wise_softmax(z):
    e = np.exp(z - z.max())
    return e / np.sum(e, axis=1).reshape(-1, 1)


@numba.njit
def _cross_entropy(W, b, X, Y):
    return -np.sum(Y * np.log(_row_wise_softmax(X @ W + b))) / X.shape[0]


def test_numpy_in_a_row_is_traced_from_the_python_source():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((16, 5)), np.eye(3)[rng.integers(3, size=16)]
    params = {"W": rng.standard_normal((5, 3)), "b": np.zeros(3)}
    E = np.exp(X @ params["W"])
    D = (E / E.sum(axis=1, keepdims=True) - Y) / 16
    grads = {"W": X.T @ D, "b": D.sum(axis=0)}

    def loss(p):
        return _cross_entropy(p["W"], p["b"], X, Y)

    report = fastcheck.check(loss, params, grads)
    assert report, report
    assert {one.engine for one in report.tensors.values()} <= {"replay", "fused"}
    wrong = fastcheck.check(loss, params, {**grads, "b": 1.01 * grads["b"]})
    assert wrong.failed == ("b",)
    insisted = fastcheck.check(loss, params, grads, engine="compiled")
    assert {one.engine for one in insisted.tensors.values()} == {"compiled"}
