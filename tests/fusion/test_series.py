"""Short polynomials: within a few units in the last place of the functions of `math`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastcheck.fusion import series
from fastcheck.fusion.expression import Parity, Table
from fastcheck.fusion.form import Algebra

ULP = 2.0**-52


def coshm1(u: float) -> float:
    return 2.0 * math.sinh(u / 2) ** 2


def one_minus_cos(u: float) -> float:
    return 2.0 * math.sin(u / 2) ** 2


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[float], float]]] = {
    "sinh": (series.sinh, math.sinh),
    "coshm1": (series.coshm1, coshm1),
    "sin": (series.sin, math.sin),
    "one_minus_cos": (series.one_minus_cos, one_minus_cos),
    "log1p": (series.log1p, math.log1p),
}
within = pytest.mark.parametrize("reach", series.REACHES)


def arguments(reach: float) -> list[float]:
    sizes = reach * np.concatenate([2.0 ** -np.arange(0.0, 30.0, 1.7), np.linspace(0.03, 1, 60)])
    return [*sizes.tolist(), *(-sizes).tolist()]


@within
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_series_is_right_to_four_units_in_the_last_place(tools, reach: float, name: str) -> None:
    made, wanted = FUNCTIONS[name]
    expression = made(Table().step(), reach)
    for u in arguments(reach):
        assert abs(tools.evaluate(expression, u) - wanted(u)) <= 4 * ULP * abs(wanted(u)), u


@within
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_series_of_zero_is_zero(tools, reach: float, name: str) -> None:
    assert tools.evaluate(FUNCTIONS[name][0](Table().step(), reach), 0.0) == 0.0


@pytest.mark.parametrize(
    ("name", "parity"),
    [("sinh", "ODD"), ("sin", "ODD"), ("coshm1", "EVEN"), ("one_minus_cos", "EVEN")],
)
def test_a_series_has_the_parity_of_its_function(name: str, parity: str) -> None:
    expression = FUNCTIONS[name][0](Table().step(), series.REACHES[-1])
    assert expression.parity is Parity[parity]


def grown(reach: float) -> Any:
    algebra = Algebra(reach)
    return algebra, series.growth(algebra, algebra.variable((), algebra.table.step()), ())


@within
def test_growth_is_expm1(tools, reach: float) -> None:
    algebra, form = grown(reach)
    expression = algebra.value(form)
    for u in arguments(reach):
        wanted = math.expm1(u)
        assert abs(tools.evaluate(expression, u) - wanted) <= 4 * ULP * abs(wanted), u


@within
def test_growth_keeps_an_odd_and_an_even_term_apart(reach: float) -> None:
    _, form = grown(reach)
    assert [term.variable.parity for term in form.terms] == [Parity.ODD, Parity.EVEN]


@within
def test_the_argument_of_a_series_is_checked(tools, reach: float) -> None:
    algebra, _ = grown(reach)
    ((value, bound),) = algebra.limits
    refused = value.exceeds(algebra.table.load(bound))
    assert not tools.evaluate(refused, 0.999 * reach)
    assert not tools.evaluate(refused, -0.999 * reach)
    assert tools.evaluate(refused, 1.001 * reach)
    assert tools.evaluate(refused, math.nan)


@within
def test_log_growth_is_log1p(tools, reach: float) -> None:
    algebra = Algebra(reach)
    form = series.log_growth(algebra, algebra.variable((), algebra.table.step()))
    expression = algebra.value(form)
    for u in arguments(reach):
        wanted = math.log1p(u)
        assert abs(tools.evaluate(expression, u) - wanted) <= 4 * ULP * abs(wanted), u


def test_a_smaller_reach_needs_fewer_terms() -> None:
    counts = [series.terms(reach, lambda k: 1.0) for reach in series.REACHES]
    assert counts == sorted(counts)
    assert counts[0] == 2
    assert counts[-1] == 18


def test_horner_is_the_polynomial(tools) -> None:
    expression = series.horner(Table().step(), [3.0, -2.0, 0.5])
    assert tools.evaluate(expression, 4.0) == 3.0 - 8.0 + 8.0
