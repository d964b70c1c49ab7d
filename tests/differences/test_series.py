"""Functions of tiny differences by their first few terms, against longer arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.differences import Bases, Context, Delta, propagate, series
from fastcheck.trace.graph import Primitive
from fastcheck.trace.primitives import SIGMOID, elementwise
from fastcheck.trace.tape import Tape

REACHES = [2.0**-40, 0.99 * 2.0**-27, 1.01 * 2.0**-27, 2.0**-20, 2.0**-18, 2.0**-15, 2.0**-12]
BASES = np.linspace(-30, 30, 25)


def tanh_growth(b: np.ndarray, d: np.ndarray) -> np.ndarray:
    t = np.tanh(d)
    return t / np.cosh(b) ** 2 / (1 + t * np.tanh(b))


FUNCTIONS = {
    elementwise(np.exp): (lambda b, d: np.exp(b) * np.expm1(d), BASES),
    elementwise(np.tanh): (tanh_growth, BASES / 2),
    SIGMOID: (lambda b, d: tanh_growth(b / 2, d / 2) / 2, BASES),
    elementwise(np.log): (lambda b, d: np.log1p(d / b), np.geomspace(1e-3, 1e3, 25)),
}


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("primitive", FUNCTIONS, ids=lambda x: x.name)
def test_all_digits_of_a_tiny_difference_are_right(primitive: Primitive, reach: float) -> None:
    growth, bases = FUNCTIONS[primitive]
    tape = Tape()
    node = tape.apply(primitive, tape.parameter("x", bases))
    scale = bases if primitive.name == "log" else 1.0
    moves = reach * scale * np.random.default_rng(1).uniform(-1, 1, (40, len(bases)))
    found = propagate(Context(Bases(), 40), node, [Delta(moves.copy(), {})])
    assert found is not None
    exact = growth(bases.astype(np.longdouble), moves.astype(np.longdouble))
    np.testing.assert_allclose(found.values, exact.astype(np.float64), rtol=2e-15, atol=0)


@pytest.mark.parametrize("reach", [2.0**-30, 2.0**-19, 2.0**-14, 1.0])
@pytest.mark.parametrize(("ours", "numpy"), [(series.expm1, np.expm1), (series.log1p, np.log1p)])
def test_expm1_and_log1p_are_numpy_s(ours: object, numpy: np.ufunc, reach: float) -> None:
    d = np.random.default_rng(2).uniform(-0.9 * reach, reach, (8, 100))
    np.testing.assert_allclose(ours(Context(Bases(), 8), d), numpy(d), rtol=1e-15)  # type: ignore[operator]


def test_what_is_not_tiny_or_not_a_number_has_no_series() -> None:
    context, d = Context(Bases(), 8), np.full((8, 100), 2.0**-30)
    assert series.terms(context, d) == 2
    d[3, 5] = 2.0**-10
    assert series.terms(context, d) == 0
    d[3, 5] = np.nan
    assert series.terms(context, d) == 0
