"""Machine code and NumPy say the same of any differences and any comparison."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st

import fastcheck
from fastcheck.engines.base import Differences
from fastcheck.params import ParamTree
from fastcheck.problems.mlp import mlp_problem
from fastcheck.report.data import Verdict
from fastcheck.verdict.comparison import Comparison
from fastcheck.verdict.decision import Names, judged
from fastcheck.verdict.exact import _largest_first
from fastcheck.verdict.machine import sweeps
from fastcheck.verdict.measurement import assemble
from fastcheck.verdict.reading import Site
from fastcheck.verdict.steps import scale_of
from fastcheck.verdict.tolerances import tolerance_for

pytest.importorskip("llvmlite")
CLOSE = 1e-13
ENDS = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e300, -1e300, 1e-300, 5e-324, 1e160, 1e-160]
TOLERANCE = tolerance_for([np.float64])


class Engine:
    """As much of an engine as a site looks at."""

    unit_roundoff = 2.0**-53


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """Machine code for every engine; the function turns it off."""

    def use(there):
        monkeypatch.setattr(sweeps, "at_hand", lambda engine: there)

    use(True)
    return use


def numbers(rng, count, wild):
    """Return numbers of many sizes, a few of them at the ends of the range of floats."""
    values = rng.standard_normal(count) * 10.0 ** rng.integers(-9, 4, count)
    values[rng.random(count) < 0.1] = 0.0
    for place in rng.integers(0, count, wild):
        values[place] = rng.choice(ENDS)
    return values


def alike(mine, other, scale=0.0):
    """Whether numbers are the same to the last digits, NaN and Inf in the same places."""
    return np.allclose(mine, other, rtol=CLOSE, atol=CLOSE * scale, equal_nan=True)


def readings(near, theta, indices, steps):
    """Return the same differences read by machine code and by NumPy."""
    (tensor,) = ParamTree.from_user(theta)
    with np.errstate(all="ignore"):
        site = Site(tensor, indices, scale_of(tensor), 2.0**-53, Engine())
        mine = site.read(near, steps)
        site.machine = False
        return mine, site.read(near, steps)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 200), wild=st.sampled_from([0, 0, 1, 3]))
@example(seed=0, count=8, wild=0)
def test_differences_are_read_alike(seed, count, wild):
    rng = np.random.default_rng(seed)
    theta = rng.standard_normal(count + 5)
    indices = np.sort(rng.choice(count + 5, count, replace=False))
    steps = np.full(count, 2.0 ** rng.integers(-60, -20))
    slope = numbers(rng, count, wild)
    bend = numbers(rng, count, wild) * rng.choice([0.0, 1e-9, 1e-3])
    with np.errstate(all="ignore"):
        plus, minus = (slope + bend) * steps, (slope - bend) * steps
        kinked = rng.random(count) < (0.02 if wild else 0.0)
        near = Differences(plus, minus, steps.copy(), steps.copy(), kinked, 0)
        mine, other = readings(near, theta, indices, steps)
        event("machine code" if mine._found else "left to NumPy")
        if not wild:
            assert mine._found, "these are ordinary"
        assert mine.ordinary == other.ordinary
        assert mine.top == other.top
        for name in ("values", "gap", "bends"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
        assert alike(mine.noise(), other.noise())
        assert alike(mine.noise(kinked), other.noise(kinked))
        expected = _largest_first(other.bends, 8)
        np.testing.assert_array_equal(_largest_first(mine.bends, 8, mine.bent), expected)


def test_what_is_not_an_ordinary_array_is_left_to_numpy():
    steps = np.full(9, 2.0**-30)
    rising = np.linspace(1.0, 2.0, 9) * steps
    none = np.zeros(9, dtype=bool)
    plain = Differences(rising, rising, steps, steps, none, 0)
    theta, indices = np.ones(20), np.arange(9)
    given = (1.0, 1e-15, 1e-3)
    assert sweeps.read(plain, theta, indices, given) is not None
    for other in (
        {"plus": np.repeat(rising, 2)[::2]},
        {"plus": rising.astype(np.float32)},
        {"minus": rising.astype(">f8")},
        {"step_plus": np.broadcast_to(steps[0], 9)},
        {"kinked": np.zeros(9, dtype=np.uint8)},
        {"minus": rising[:8]},
    ):
        assert sweeps.read(dataclasses.replace(plain, **other), theta, indices, given) is None
    # Nothing is read beyond the parameters.
    for wrong in (20, 2**40, -1):
        assert sweeps.read(plain, theta, np.array([*range(8), wrong]), given) is None
    nothing = Differences(*[np.zeros(0)] * 4, np.zeros(0, dtype=bool), 0)
    assert sweeps.read(nothing, theta, np.arange(0), given) is None


def compared(seed, count, wild, error):
    """Return an analytic gradient and a measurement, its parts of all sizes."""
    rng = np.random.default_rng(seed)
    values, noise = numbers(rng, count, wild), np.abs(numbers(rng, count, wild)) * 1e-9
    known = np.isfinite(values)
    top = float(np.max(np.abs(values[known]), initial=0.0))
    steps = np.full(count, 2.0**-33)
    analytic = np.where(known, values, 1.0) * (1 + error * rng.standard_normal(count))
    for place in rng.integers(0, count, wild):
        analytic[place] = rng.choice(ENDS)
    with np.errstate(all="ignore"):
        measured = assemble(
            values=values,
            roundoff=rng.choice([0.0, 1e-14]) * top,
            truncation=rng.choice([0.0, 1e-15]) * top,
            gradient_noise=noise * rng.choice([0.0, 1.0]),
            steps=steps,
            loss_calls=0,
            exact=True,
            reacts=True,
            finite=bool(known.all()),
            plain=True,
        )
    return analytic, measured.noted(floor=rng.choice([0.0, 1e-20]))


@settings(max_examples=400, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 200),
    wild=st.sampled_from([0, 0, 1, 2]),
    error=st.sampled_from([0.0, 1e-14, 1e-7, 1e-5, 1e-2]),
    floor=st.sampled_from([0.0, 1e-18, 1e-9]),
)
def test_gradients_are_compared_alike(seed, count, wild, error, floor):
    analytic, measured = compared(seed, count, wild, error)
    with np.errstate(all="ignore"):
        mine = Comparison.summed(analytic, measured, TOLERANCE, floor)
        event("left to NumPy" if mine is None else "machine code")
        if mine is None:
            assert wild, "this is ordinary"
            return
        other = Comparison.of(analytic, measured, TOLERANCE, floor)
        assert np.isfinite(analytic).all()
        for name in ("any_lost", "any_kinked", "any_candidates", "any_wrong", "tops", "floor"):
            assert getattr(mine, name) == getattr(other, name), name
        for name in ("outside", "wrong", "weak", "open_kinks"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))
        for name in ("scale", "resolution", "coarsest", "relative_error", "difference", "sizes"):
            assert alike(getattr(mine, name), getattr(other, name)), name
        # To the last bit: of several that are equally far out it is the first.
        assert mine.furthest() == other.furthest()
        mass = float(np.abs(analytic * measured.values).sum())
        for field in dataclasses.fields(mine.projection):
            pair = [getattr(one.projection, field.name) for one in (mine, other)]
            assert alike(*pair, scale=mass if field.name == "product" else 0.0), field.name
        assert mine.vanishes() == other.vanishes()
        assert mine.has_evidence() == other.has_evidence()
        assert mine.scale_is_off == other.scale_is_off


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    wild=st.sampled_from([0, 0, 1]),
    error=st.sampled_from([0.0, 1e-14, 1e-5, 1e-2]),
)
def test_they_are_judged_alike(seed, count, wild, error):
    analytic, measured = compared(seed, count, wild, error)
    names = Names("W", (count,), np.arange(count), False)

    def verdict(measured):
        return judged(names, analytic, measured, TOLERANCE, measured.part, floor=1e-18, step=None)

    with np.errstate(all="ignore"):
        mine = verdict(measured)
        event(str(mine.verdict))
        assert_same(mine, verdict(measured.noted(plain=None)))


def assert_same(mine, other):
    """The same judgement, numbers to the last digits."""
    for field in dataclasses.fields(mine):
        a, b = getattr(mine, field.name), getattr(other, field.name)
        if field.name in ("relative_error", "resolution", "difference", "sizes", "error_bar"):
            assert alike(a, b), field.name
        elif field.name not in ("projection", "worst"):
            np.testing.assert_array_equal(a, b, err_msg=field.name)
    assert mine.worst.index == other.worst.index
    assert alike(dataclasses.astuple(mine.worst)[1:4], dataclasses.astuple(other.worst)[1:4])


@pytest.mark.parametrize("trained", [0, 200])
@pytest.mark.parametrize("zeroed", [0, 18])
def test_whole_checks_come_out_alike(
    check, ReluNet, planted, machine, monkeypatch, trained, zeroed
):
    net = ReluNet(sizes=(24, 6, 4), seed=2)
    net.X[:zeroed] = 0
    net.train(trained)
    engine = net.exact_engine()
    right = net.grads()
    missed = dict(right, W1=np.where(np.arange(24) == 23, np.nan, right["W1"]))
    swept = []
    original = sweeps.sums
    monkeypatch.setattr(
        "fastcheck.verdict.comparison.sums", lambda *a: swept.append(original(*a)) or swept[-1]
    )
    for bug, tensor, grads in [("", "", right), ("NaN", "W1", missed), *planted(right)]:
        machine(True)
        mine = check(net.loss, net.params, grads, engine=engine)
        machine(False)
        other = check(net.loss, net.params, grads, engine=engine)
        assert mine.verdict is (Verdict.FAIL if bug else Verdict.PASS), bug
        assert (mine.verdict, mine.reason) == (other.verdict, other.reason)
        for name, judgement in mine.tensors.items():
            assert (judgement.verdict is Verdict.FAIL) == (name == tensor)
            assert_same(judgement, other.tensors[name])
    assert sum(found is not None for found in swept) > len(swept) / 2


def test_kinks_are_left_to_numpy(check, ReluNet, machine):
    net = ReluNet(seed=2)
    net.X[:, 0] = 0  # with biases of zero, every hidden unit is on its corner for sample 0
    mine = check(net.loss, net.params, net.grads(), engine=net.exact_engine())
    machine(False)
    other = check(net.loss, net.params, net.grads(), engine=net.exact_engine())
    assert mine.tensors["b1"].kinked > 0
    for name, judgement in mine.tensors.items():
        assert_same(judgement, other.tensors[name])


@pytest.fixture
def calls(monkeypatch):
    """What `sweeps.read` returns, call by call, with the engines that really have LLVM."""
    monkeypatch.undo()
    found = []
    original = sweeps.read
    monkeypatch.setattr(sweeps, "read", lambda *a: found.append(original(*a)) or found[-1])
    return found


def test_kernels_are_read_by_machine_code_and_planted_bugs_fail(calls):
    problem = mlp_problem((30, 7, 5), 16)
    right = problem.gradients()
    for scale, expected in ((1.0, Verdict.PASS), (1.001, Verdict.FAIL)):
        grads = dict(right, W2=scale * right["W2"])
        calls.clear()
        report = fastcheck.check(problem.loss, problem.params, grads, engine="fused")
        assert report.verdict is expected
        assert len(calls) >= 4
        assert all(found is not None for found in calls)
    assert report.failed == ("W2",)


@pytest.mark.parametrize("engine", ["replay", "loop"])
def test_other_engines_do_without(calls, engine):
    problem = mlp_problem((30, 7, 5), 16)
    assert fastcheck.check(problem.loss, problem.params, problem.gradients(), engine=engine)
    assert calls == []


def test_where_llvm_fails_numpy_does_it(calls, monkeypatch):
    def broken():
        raise RuntimeError("no such processor")

    problem = mlp_problem((30, 7, 5), 16)
    monkeypatch.setattr(sweeps, "text", broken)
    sweeps._loaded.cache_clear()
    try:
        report = fastcheck.check(problem.loss, problem.params, problem.gradients(), engine="fused")
    finally:
        sweeps._loaded.cache_clear()
    assert report.verdict is Verdict.PASS
    assert {tensor.engine for tensor in report.tensors.values()} == {"fused"}
    assert calls == []
