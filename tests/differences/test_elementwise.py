"""Elementwise rules as a property: unstack(rule(stack)) is f(b + d) − f(b), copy by copy."""

from typing import Any

import numpy as np
import pytest
import scipy.special  # so that its ufuncs can be found

from fastcheck.differences import Delta, cancels
from fastcheck.differences.rules import RULES
from fastcheck.trace.primitives import ELEMENTWISE, SPECIAL, elementwise

EXTENDED = np.finfo(np.longdouble).eps < 1e-18
SHAPE = (3, 4)

# Name → where base values are drawn from, and how large a difference stays in the domain.
ONE = {
    "negative positive square conjugate deg2rad rad2deg degrees radians": (-2, 2, 3),
    "exp exp2 expm1 sinh cosh tanh arctan arcsinh cbrt": (-4, 4, 3),
    "sin cos": (-4, 4, 3),
    "log log2 log10 sqrt reciprocal": (0.5, 3, 0.45),
    "log1p": (-0.4, 2, 0.5),
    "tan": (-0.7, 0.7, 0.7),
    "arcsin arccos arctanh": (-0.6, 0.6, 0.35),
    "arccosh": (2, 4, 0.9),
    "absolute fabs": (0.5, 3, 0.4),
}
TWO = {
    "add subtract multiply hypot logaddexp logaddexp2": (-3, 3, 2),
    "divide power float_power arctan2": (0.6, 3, 0.5),
    "maximum minimum fmax fmin": (-3, 3, 2),
    "remainder fmod": (0.6, 3, 0.5),
    "copysign": (0.6, 3, 0.5),
    "heaviside": (-1, 1, 0.7),
}
CANCELLING = {"arccosh", "fmod", "copysign", "heaviside"}  # or moving in jumps: no digits to keep


def flattened(table: dict[str, tuple[float, float, float]], without: Any = ()) -> list[Any]:
    return [
        pytest.param(name, *domain, id=name)
        for names, domain in table.items()
        for name in names.split()
        if name not in without
    ]


def agree(found: np.ndarray, wanted: np.ndarray, size: np.ndarray, relative: float) -> None:
    """Compare with what the plain difference is good for: `size` is that of its terms."""
    unit = float(np.finfo(wanted.dtype).eps)
    error = abs(found.astype(wanted.dtype) - wanted)
    assert np.all(error <= relative * abs(wanted) + 8 * unit * size)


def test_every_ufunc_has_a_rule_that_is_tested() -> None:
    tested = " ".join([*ONE, *TWO]).split()
    smooth = {p for p in ELEMENTWISE.values() if not p.discrete}
    assert {elementwise(getattr(np, name)) for name in tested} == smooth
    assert all(p in RULES for p in [*ELEMENTWISE.values(), *SPECIAL.values()])


@pytest.mark.parametrize(("name", "low", "high", "reach"), flattened(ONE))
@pytest.mark.parametrize("step", [1.0, 1e-3])
def test_a_difference_is_that_of_the_function(lab, rng, name, low, high, reach, step) -> None:
    x = lab.parameter(rng.uniform(low, high, SHAPE))
    node = lab.node(elementwise(getattr(np, name)), x)
    delta = lab.delta(rng, x, reach * step)
    found = lab.stack(lab.propagate(node, delta), node)
    agree(found, *lab.plain(node, delta), relative=1e-12)


@pytest.mark.skipif(not EXTENDED, reason="long double is no wider than double")
@pytest.mark.parametrize(("name", "low", "high", "reach"), flattened(ONE, CANCELLING))
def test_a_tiny_difference_keeps_its_digits(lab, rng, name, low, high, reach) -> None:
    x = lab.parameter(rng.uniform(low, high, SHAPE))
    node = lab.node(elementwise(getattr(np, name)), x)
    assert not cancels(node)
    delta = lab.delta(rng, x, 1e-9)
    found = lab.stack(lab.propagate(node, delta), node)
    agree(found, *lab.plain(node, delta, dtype=np.longdouble), relative=1e-10)


@pytest.mark.parametrize(("name", "low", "high", "reach"), flattened(TWO))
@pytest.mark.parametrize("moving", ["first", "second", "both", "broadcast"])
def test_a_difference_of_two_operands(lab, rng, name, low, high, reach, moving) -> None:
    shapes = (SHAPE, (4,)) if moving == "broadcast" else (SHAPE, SHAPE)
    x, y = (lab.parameter(rng.uniform(low, high, shape)) for shape in shapes)
    node = lab.node(elementwise(getattr(np, name)), x, y)
    for step in (1.0, 1e-3):
        dx = None if moving == "second" else lab.delta(rng, x, reach * step)
        dy = None if moving == "first" else lab.delta(rng, y, reach * step)
        found = lab.stack(lab.propagate(node, dx, dy), node)
        wanted, size = lab.plain(node, dx, dy)
        agree(found, wanted, size + high, relative=1e-12)  # logaddexp may be small by itself


@pytest.mark.skipif(not EXTENDED, reason="long double is no wider than double")
@pytest.mark.parametrize(("name", "low", "high", "reach"), flattened(TWO, CANCELLING))
@pytest.mark.parametrize("moving", ["first", "second", "both"])
def test_a_tiny_difference_of_two_operands(lab, rng, name, low, high, reach, moving) -> None:
    x, y = (lab.parameter(rng.uniform(low, high, SHAPE)) for _ in range(2))
    node = lab.node(elementwise(getattr(np, name)), x, y)
    dx = None if moving == "second" else lab.delta(rng, x, 1e-9)
    dy = None if moving == "first" else lab.delta(rng, y, 1e-9)
    found = lab.stack(lab.propagate(node, dx, dy), node)
    wanted, size = lab.plain(node, dx, dy, dtype=np.longdouble)
    # Where the two moves almost cancel each other, the result is small beside each of them.
    assert np.all(abs(found - wanted) <= 1e-10 * abs(wanted) + 1e-17 * 1e-7 + 2e-18 * size)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 4, 5, -1, -2, 0.5, 1.5, np.array([[2.0]])])
def test_powers_of_either_sign(lab, rng, exponent) -> None:
    sign = 1 if isinstance(exponent, float) else rng.choice([-1, 1], SHAPE)
    x = lab.parameter(sign * rng.uniform(0.5, 2, SHAPE))
    node = lab.node(elementwise(np.power), x, exponent)
    for scale in (0.4, 1e-9):
        delta = lab.delta(rng, x, scale)
        found = lab.stack(lab.propagate(node, delta, None), node)
        agree(found, *lab.plain(node, delta, None, dtype=np.longdouble), relative=1e-10)


@pytest.mark.parametrize("name", ["tanh", "exp", "log", "sqrt", "arctan", "cbrt", "arcsinh"])
def test_steps_far_larger_than_the_parameter(lab, rng, name) -> None:
    x = lab.parameter(rng.choice([1e-6, 0.3, 2.0, 17.0], SHAPE))
    node = lab.node(elementwise(getattr(np, name)), x)
    delta = lab.delta(rng, x, 25.0)
    delta = Delta(abs(delta.values), delta.pins)
    found = lab.stack(lab.propagate(node, delta), node)
    agree(found, *lab.plain(node, delta), relative=1e-12)


@pytest.mark.parametrize("base", [-40.0, -19.0, -3.0, 0.0, 5.0, 25.0])
@pytest.mark.parametrize("move", [-45.0, -19.0, -2.0, 2.0, 19.0, 45.0])
@pytest.mark.parametrize("name", ["tanh", "expit", "log_expit", "erf", "erfc", "arctan"])
def test_saturated_functions_come_back(lab, name, base, move) -> None:
    function = getattr(np, name, None) or getattr(scipy.special, name)
    x = lab.parameter(np.full(2, base))
    node = lab.node(elementwise(function), x)
    delta = lab.delta(np.random.default_rng(0), x, 0.0)
    delta = Delta(delta.values + move, delta.pins)
    found = lab.stack(lab.propagate(node, delta), node)
    agree(found, *lab.plain(node, delta), relative=1e-11)


@pytest.mark.parametrize("name", ["expit", "log_expit"])
def test_tiny_differences_of_scipy_s_sigmoids(lab, rng, name) -> None:
    x = lab.parameter(rng.uniform(-8, 8, SHAPE))
    node = lab.node(elementwise(getattr(scipy.special, name)), x)
    delta = lab.delta(rng, x, 1e-9)
    found = lab.stack(lab.propagate(node, delta), node)
    b = x.value
    slope = 1 / (1 + np.exp(b)) if name == "log_expit" else 1 / ((1 + np.exp(b)) * (1 + np.exp(-b)))
    np.testing.assert_allclose(found, lab.stack(delta, x) * slope, rtol=5e-9)


def test_a_tiny_difference_of_erf_is_its_series(lab, rng) -> None:
    x = lab.parameter(rng.uniform(-3, 3, SHAPE))
    node = lab.node(elementwise(scipy.special.erf), x)
    delta = lab.delta(rng, x, 1e-9)
    d = lab.stack(delta, x)
    series = 2 / np.sqrt(np.pi) * np.exp(-(x.value**2)) * (d - x.value * d**2)
    np.testing.assert_allclose(lab.stack(lab.propagate(node, delta), node), series, rtol=1e-12)


def test_xlogy_is_zero_where_its_factor_is(lab, rng) -> None:
    x, y = lab.parameter([0.0, 0.0, 0.5, 1.0]), lab.parameter([0.0, 2.0, 2.0, 3.0])
    node = lab.node(elementwise(scipy.special.xlogy), x, y)
    dx, dy = lab.delta(rng, x, 0.4), lab.delta(rng, y, 0.4)
    dx, dy = Delta(abs(dx.values), dx.pins), Delta(abs(dy.values), dy.pins)
    for deltas in ((dx, dy), (None, dy)):
        found = lab.stack(lab.propagate(node, *deltas), node)
        agree(found, *lab.plain(node, *deltas), relative=1e-12)


def test_crossing_the_cut_of_arctan2_jumps_by_a_turn(lab) -> None:
    y, x = lab.parameter(np.full(2, 0.1)), lab.parameter(np.full(2, -1.0))
    node = lab.node(elementwise(np.arctan2), y, x)
    delta = lab.delta(np.random.default_rng(0), y, 0.0)
    delta = Delta(delta.values - 0.2, delta.pins)
    found = lab.stack(lab.propagate(node, delta, None), node)
    agree(found, *lab.plain(node, delta, None), relative=1e-12)
