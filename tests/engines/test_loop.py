"""The loop engine: right differences, a working tree that survives anything, and little cost."""

from __future__ import annotations

from collections import OrderedDict
from time import perf_counter

import numpy as np
import pytest

from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import InputError
from fastcheck.params import ParamTree


def engine_of(function, params):
    tree = ParamTree.from_user(params)
    loss = LossFunction(function, tree)
    return LoopEngine(loss, tree), loss, tree


def cube(params):
    return np.sum(params["W"] ** 3) + np.sum(params["b"])


PARAMS = {"W": np.arange(1.0, 7.0).reshape(2, 3), "b": np.ones(2)}
EVERY = np.arange(6)


def test_differences_are_those_of_the_loss():
    engine, _, _ = engine_of(cube, PARAMS)
    d = engine.differences("W", EVERY, np.full(6, 0.5))
    x = PARAMS["W"].ravel()
    np.testing.assert_allclose(d.plus, (x + 0.5) ** 3 - x**3, rtol=1e-13)
    np.testing.assert_allclose(d.minus, x**3 - (x - 0.5) ** 3, rtol=1e-13)


def test_indices_and_steps_may_come_in_any_order_and_repeat():
    engine, _, _ = engine_of(cube, PARAMS)
    d = engine.differences("W", np.array([4, 0, 4]), np.array([0.5, 0.25, 0.125]))
    np.testing.assert_allclose(d.plus, [5.5**3 - 125, 1.25**3 - 1, 5.125**3 - 125], rtol=1e-12)


def test_steps_are_those_really_taken():
    engine, _, _ = engine_of(lambda p: p["W"].sum(), {"W": np.array([1e3])})
    d = engine.differences("W", np.array([0]), np.array([1e-7]))
    assert d.step_plus[0] == (1e3 + 1e-7) - 1e3
    assert d.step_minus[0] == 1e3 - (1e3 - 1e-7)
    assert d.step_plus[0] != 1e-7


def test_forward_differences_call_the_loss_once_an_element():
    engine, loss, _ = engine_of(cube, PARAMS)
    before = loss.calls
    d = engine.differences("W", EVERY, np.full(6, 0.5), central=False)
    assert loss.calls - before == 6 == d.loss_calls
    np.testing.assert_array_equal(d.minus, np.zeros(6))
    np.testing.assert_array_equal(d.step_minus, np.zeros(6))


def test_central_differences_call_the_loss_twice_an_element():
    engine, loss, _ = engine_of(cube, PARAMS)
    before = loss.calls
    assert engine.differences("W", EVERY, np.full(6, 0.5)).loss_calls == 12
    assert loss.calls - before == 12


def test_a_black_box_reports_no_kinks():
    engine, _, _ = engine_of(lambda p: np.abs(p["W"]).sum(), {"W": np.zeros(2)})
    assert not engine.differences("W", np.arange(2), np.ones(2)).kinked.any()


def test_one_perturbation_is_undone_before_the_next():
    seen = []

    def loss(params):
        seen.append(params["W"].copy())
        return 0.0

    engine, _, _ = engine_of(loss, PARAMS)
    seen.clear()
    engine.differences("W", EVERY, np.full(6, 0.5))
    assert all(np.count_nonzero(PARAMS["W"] != W) == 1 for W in seen)


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
    weights = np.random.default_rng(0).standard_normal(params.shape)
    engine, _, _ = engine_of(lambda p: np.sum(weights * p), params)
    d = engine.differences("params", np.arange(params.size), np.full(params.size, 0.5))
    np.testing.assert_allclose(d.plus / 0.5, weights.ravel(), rtol=1e-10)


def test_python_floats_are_perturbed_too():
    engine, _, _ = engine_of(lambda p: p["a"] ** 2 + p["b"], {"a": 3.0, "b": np.float64(1.0)})
    d = engine.differences("a", np.array([0]), np.array([0.5]))
    assert d.plus[0] == 3.5**2 - 9


def test_containers_are_those_of_the_user():
    kinds = []
    params = OrderedDict(layers=[(np.ones(2), np.ones(1))])
    engine, _, _ = engine_of(
        lambda p: kinds.append((type(p), type(p["layers"]), type(p["layers"][0]))) or 0.0, params
    )
    engine.differences("layers[0][0]", np.arange(2), np.ones(2))
    assert set(kinds) == {(OrderedDict, list, tuple)}


def test_the_users_arrays_are_never_touched():
    params = {"W": np.ones(3)}

    def loss(p):
        p["W"][:] = 7
        return 0.0

    engine, _, _ = engine_of(loss, params)
    engine.differences("W", np.arange(3), np.ones(3))
    np.testing.assert_array_equal(params["W"], np.ones(3))


def test_a_loss_that_is_not_finite_at_theta_is_an_error():
    with pytest.raises(InputError, match="`loss` is nan"):
        engine_of(lambda p: np.nan, PARAMS)


def test_a_loss_that_is_not_finite_beside_theta_gives_nan_or_inf():
    with np.errstate(invalid="ignore"):
        engine, _, _ = engine_of(lambda p: np.sum(np.sqrt(p["W"])), {"W": np.array([1e-3, 1.0])})
        d = engine.differences("W", np.arange(2), np.full(2, 0.5))
    assert np.isnan(d.minus[0])
    assert np.isfinite(d.plus).all()


# Losses that write into what they are given


def square(p):
    return np.sum(p["W"] ** 2) + np.sum(p["b"] ** 2)


def writes_all(p):
    value = square(p)
    p["W"] *= 0.5
    return value


def writes_the_other_tensor(p):
    value = square(p)
    p["b"][0] = 99.0
    return value


def rebinds(p):
    value = square(p)
    p["W"] = p["W"] + 1.0
    return value


def adds_a_key_and_reads_it(p):
    return p.setdefault("cache", square(p))


def pops(p):
    return np.sum(p.pop("W") ** 2) + np.sum(p["b"] ** 2)


def clears_large_elements(p):
    value = square(p)
    p["W"][p["W"] > 6.2] = 0.0
    return value


@pytest.mark.parametrize(
    ("loss", "named"),
    [
        (writes_all, ("W",)),
        (writes_the_other_tensor, ("b",)),
        (rebinds, ("W",)),
        (adds_a_key_and_reads_it, ()),
        (pops, ("W",)),
        (clears_large_elements, ("W",)),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_a_loss_that_writes_into_its_parameters_is_noticed_and_differentiated_right(loss, named):
    engine, _, _ = engine_of(loss, PARAMS)
    d = engine.differences("W", EVERY, np.full(6, 0.5))
    x = PARAMS["W"].ravel()
    np.testing.assert_allclose(d.plus, (x + 0.5) ** 2 - x**2, rtol=1e-12)
    np.testing.assert_allclose(d.minus, x**2 - (x - 0.5) ** 2, rtol=1e-12)
    assert engine.writes_params == named


def test_a_loss_that_writes_only_now_and_then_is_noticed():
    calls = []

    def loss(p):
        calls.append(1)
        value = square(p)
        if len(calls) == 5:
            p["b"] += 1.0
        return value

    engine, _, _ = engine_of(loss, PARAMS)
    d = engine.differences("W", EVERY, np.full(6, 0.5))
    x = PARAMS["W"].ravel()
    np.testing.assert_allclose(d.plus, (x + 0.5) ** 2 - x**2, rtol=1e-12)
    assert engine.writes_params == ("b",)


def test_a_loss_that_only_reads_is_not_suspected():
    engine, _, _ = engine_of(square, PARAMS)
    engine.differences("W", EVERY, np.full(6, 0.5))
    assert engine.writes_params == ()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_the_working_tree_right(error):
    calls = []

    def loss(p):
        calls.append(1)
        if len(calls) == 5:
            raise error
        return square(p)

    engine, _, _ = engine_of(loss, PARAMS)
    with pytest.raises(error):
        engine.differences("W", EVERY, np.full(6, 0.5))
    again = engine.differences("b", np.arange(2), np.full(2, 0.5))
    np.testing.assert_allclose(again.plus, [1.25, 1.25], rtol=1e-12)
    assert engine.writes_params == ()


def test_the_engine_adds_at_most_a_few_microseconds_to_a_call():
    engine, _, _ = engine_of(lambda p: 1.0, {"W": np.zeros(2000)})
    indices, steps = np.arange(2000), np.ones(2000)
    engine.differences("W", indices, steps)
    best = min(_seconds(lambda: engine.differences("W", indices, steps)) for _ in range(5))
    # Of these some 0.1 µs are the function's own; the bound leaves room for a busy machine.
    assert best / 4000 < 6e-6


def _seconds(action):
    start = perf_counter()
    action()
    return perf_counter() - start
