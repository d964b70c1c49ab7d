"""exp(u) − 1, log(1 + u), sin u and 1 − cos u for small u: short polynomials.

A kernel is made for one *reach*: a bound on the arguments of its polynomials, which it checks. The
number of terms follows from the reach, so that the first term left out is below 2⁻⁵⁴ of the result.
Where an argument is larger, the kernel says so, and the copy is computed by the replay engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import factorial

from fastcheck.fusion.expression import NUMBER, Expression
from fastcheck.fusion.form import Algebra, Axis, Form, Term

REACHES = (2.0**-27, 2.0**-13, 2.0**-7, 2.0**-3)
"""Bounds on |u| that kernels are made for."""
_NEGLIGIBLE = 2.0**-54


def terms(reach: float, coefficient: Callable[[int], float], slack: float = 1.0) -> int:
    """Return how many terms Σ c(k)·uᵏ needs, relative to its first, for |u| ≤ reach."""
    count = 1
    while coefficient(count) * reach**count > slack * _NEGLIGIBLE * coefficient(0):
        count += 1
    return count


def growth(algebra: Algebra, form: Form, axes: Iterable[Axis]) -> Form:
    """Return exp(form) − 1 as sinh + (cosh − 1): apart, each needs one sum for both signs of h."""
    u, reach = algebra.in_reach(form), algebra.reach
    # The even part is about u/2 of the odd one, and so much may be missing of it in proportion.
    even = _in_squares(u, 2, 1.0, reach, 1.0 / reach)
    scale = 1.0
    if even.op == NUMBER:
        even, scale = even.constant(1.0), even.payload
    return algebra.form(axes, Term((), sinh(u, reach)), Term((), (u * u) * even, scale))


def log_growth(algebra: Algebra, form: Form) -> Form:
    """Return log(1 + form)."""
    return algebra.variable(form.axes, log1p(algebra.in_reach(form), algebra.reach))


def sinh(u: Expression, reach: float) -> Expression:
    """Return u + u³/3! + u⁵/5! + …"""
    return u * _in_squares(u, 1, 1.0, reach)


def coshm1(u: Expression, reach: float) -> Expression:
    """Return cosh u − 1 = u²/2! + u⁴/4! + …"""
    return (u * u) * _in_squares(u, 2, 1.0, reach)


def sin(u: Expression, reach: float) -> Expression:
    """Return u − u³/3! + u⁵/5! − …"""
    return u * _in_squares(u, 1, -1.0, reach)


def one_minus_cos(u: Expression, reach: float) -> Expression:
    """Return 1 − cos u = u²/2! − u⁴/4! + …"""
    return (u * u) * _in_squares(u, 2, -1.0, reach)


def _in_squares(
    u: Expression, first: int, sign: float, reach: float, slack: float = 1.0
) -> Expression:
    """Return Σ (sign·u²)ᵏ/(first + 2k)!, as many terms as count up to `slack`·2⁻⁵⁴."""

    def size(k: int) -> float:
        return 1.0 / factorial(first + 2 * k)

    count = terms(reach * reach, size, slack)
    return horner(u * u, [sign**k * size(k) for k in range(count)])


def horner(x: Expression, coefficients: list[float]) -> Expression:
    """Return Σ cₖxᵏ."""
    result = x.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        result = x * result + coefficient
    return result


def log1p(u: Expression, reach: float) -> Expression:
    """Return log(1 + u): its Taylor series, or 2·artanh(u/(2 + u)) where that would be long."""
    count = terms(reach, lambda k: 1.0 / (k + 1))
    if count > 8:
        s = u / (u + 2.0)
        return s * _artanh(s * s, reach / (2.0 - reach))
    return u * horner(u, [(-1.0) ** k / (k + 1) for k in range(count)])


def _artanh(square: Expression, reach: float) -> Expression:
    """Return 2·artanh(s)/s as a series in s²."""
    count = terms(reach * reach, lambda k: 1.0 / (2 * k + 1))
    return horner(square, [2.0 / (2 * k + 1) for k in range(count)])
