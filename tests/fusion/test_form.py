"""Forms: what is linear stays outside the kernel, and a form is what NumPy would compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcheck.fusion.dims import Label, NotFusable, Pin
from fastcheck.fusion.form import MOST_UNPINNED, Algebra, Form, Term
from fastcheck.fusion.hoisted import Hoisted, Values, known, number

H = 0.25
RNG = np.random.default_rng(3)


@pytest.fixture
def algebra() -> Algebra:
    return Algebra(reach=2.0**-7)


def seed(algebra: Algebra, *axes: Any) -> Form:
    return Form(axes, (Term((), algebra.table.step()),))


def scaled(algebra: Algebra, form: Form, array: np.ndarray, *axes: Any) -> Form:
    return algebra.scale(form, known(array, axes), axes)


def factor(form: Form) -> Hoisted:
    """The one factor of the one term."""
    ((hoisted,),) = [term.factors for term in form.terms]
    return hoisted


# -- scaling ---------------------------------------------------------------------------------------


def test_scaling_by_an_array_makes_one_factor(tools, algebra: Algebra) -> None:
    a, C, D = algebra.label(3), RNG.normal(size=3), RNG.normal(size=3)
    form = scaled(algebra, scaled(algebra, seed(algebra, None), C, a), D, a)
    np.testing.assert_allclose(Values({}).of(factor(form)), C * D)
    np.testing.assert_allclose(tools.written_out(form, H, {}), C * D * H)


def test_factors_of_different_pins_stay_apart(tools, algebra: Algebra) -> None:
    p, a, C, R = Pin(0, 2), algebra.label(3), RNG.normal(size=3), RNG.normal(size=(2, 3))
    form = scaled(algebra, seed(algebra, None), C, a)
    form = algebra.scale(form, known(R, (p, a)))
    assert len(form.terms[0].factors) == 2
    np.testing.assert_allclose(tools.written_out(form, H, {p: 1}), C * R[1] * H)


def test_a_number_is_a_scale_and_no_factor(tools, algebra: Algebra) -> None:
    form = algebra.scale(seed(algebra), number(-3.0))
    assert form.terms[0].factors == ()
    assert tools.written_out(algebra.negative(form), H, {}) == 3 * H


# -- addition --------------------------------------------------------------------------------------


def test_terms_of_one_variable_become_one(tools, algebra: Algebra) -> None:
    a, C, D = algebra.label(3), RNG.normal(size=3), RNG.normal(size=3)
    one = scaled(algebra, seed(algebra, None), C, a)
    other = algebra.times(scaled(algebra, seed(algebra, None), D, a), 2.0)
    form = algebra.minus(one, other)
    assert len(form.terms) == 1
    np.testing.assert_allclose(tools.written_out(form, H, {}), (C - 2 * D) * H)


def test_an_array_less_its_reference_is_one_term(tools, algebra: Algebra) -> None:
    # The scores behind that of the winning class: C·t − C_ref·t, C_ref the same along the classes.
    n, c = algebra.label(4), algebra.label(3)
    C, reference = RNG.normal(size=(4, 3)), RNG.normal(size=4)
    one = scaled(algebra, seed(algebra, None, None), C, n, c)
    other = scaled(algebra, seed(algebra, None, None), reference[:, None], n, None)
    form = algebra.minus(one, other)
    assert len(form.terms) == 1
    assert form.axes == (n, c)
    np.testing.assert_allclose(tools.written_out(form, H, {}), (C - reference[:, None]) * H)


def test_a_form_less_itself_is_zero(tools, algebra: Algebra) -> None:
    form = scaled(algebra, seed(algebra, None), RNG.normal(size=3), algebra.label(3))
    assert not tools.written_out(algebra.minus(form, form), H, {}).any()


def test_terms_that_differ_in_two_factors_stay_apart(tools, algebra: Algebra) -> None:
    p, a = Pin(0, 2), algebra.label(3)
    arrays = [(RNG.normal(size=3), RNG.normal(size=(2, 3))) for _ in range(2)]
    forms = [
        algebra.scale(scaled(algebra, seed(algebra, None), C, a), known(R, (p, a)))
        for C, R in arrays
    ]
    form = algebra.plus(*forms)
    assert len(form.terms) == 2
    wanted = sum(C * R[1] for C, R in arrays) * H
    np.testing.assert_allclose(tools.written_out(form, H, {p: 1}), wanted)


def test_too_many_terms_become_a_variable(tools, algebra: Algebra) -> None:
    step = algebra.table.step()
    powers = [algebra.variable((), step)]
    for _ in range(9):
        powers.append(algebra.variable((), powers[-1].terms[0].variable * step))
    form = powers[0]
    for power in powers[1:]:
        form = algebra.plus(form, power)
    assert len(form.terms) <= 8
    assert tools.written_out(form, H, {}) == pytest.approx(sum(H**k for k in range(1, 11)))


# -- contraction -----------------------------------------------------------------------------------


def test_a_linear_contraction_leaves_no_sum_to_the_kernel(tools, algebra: Algebra) -> None:
    p, h, c = Pin(0, 4), algebra.label(4), algebra.label(3)
    W = RNG.normal(size=(4, 3))
    form = algebra.contract(seed(algebra, p), known(W, (p, c)), [], [c])
    assert form.terms[0].variable is algebra.table.step()
    np.testing.assert_allclose(tools.written_out(form, H, {p: 2}), W[2] * H)
    C = RNG.normal(size=4)
    form = algebra.contract(scaled(algebra, seed(algebra, None), C, h), known(W, (h, c)), [h], [c])
    assert form.terms[0].variable is algebra.table.step()
    np.testing.assert_allclose(tools.written_out(form, H, {}), C @ W * H)


def test_what_a_variable_depends_on_is_summed_in_the_kernel(tools, algebra: Algebra) -> None:
    h, c = algebra.label(4), algebra.label(3)
    C, W = RNG.normal(size=4), RNG.normal(size=(4, 3))
    value = algebra.value(scaled(algebra, seed(algebra, None), C, h))
    squares = algebra.variable((h,), value * value)
    form = algebra.contract(squares, known(W, (h, c)), [h], [c])
    assert form.terms[0].variable.labels == {c}
    np.testing.assert_allclose(tools.written_out(form, H, {}), (C * H) ** 2 @ W)


def test_a_sum_over_what_nothing_depends_on_multiplies(tools, algebra: Algebra) -> None:
    a = algebra.label(5)
    form = algebra.contract(Form((a,), seed(algebra).terms), number(1.0), [a], [])
    assert tools.written_out(form, H, {}) == 5 * H


# -- axes ------------------------------------------------------------------------------------------


def test_a_pinned_axis_is_zero_elsewhere_when_written_out(tools, algebra: Algebra) -> None:
    p = Pin(0, 4)
    form = algebra.unpin(seed(algebra, p), 0)
    (label,) = form.axes
    assert isinstance(label, Label)
    np.testing.assert_array_equal(tools.written_out(form, H, {p: 2}), [0, 0, H, 0])


def test_a_long_pinned_axis_is_not_written_out(algebra: Algebra) -> None:
    size = MOST_UNPINNED + 1
    with pytest.raises(NotFusable, match=rf"^a pinned axis of {size} would be written out$"):
        algebra.unpin(seed(algebra, Pin(0, size)), 0)


def test_one_pin_on_both_sides_stays_pinned(algebra: Algebra) -> None:
    p = Pin(0, 4)
    one, other = algebra.unify(seed(algebra, p), seed(algebra, p))
    assert one.axes == other.axes == (p,)


def test_a_pin_and_nothing_meet_on_a_label(tools, algebra: Algebra) -> None:
    p = Pin(0, 4)
    form = algebra.plus(seed(algebra, p), seed(algebra, None))
    np.testing.assert_array_equal(tools.written_out(form, H, {p: 2}), [H, H, 2 * H, H])


def test_two_labels_of_one_axis_become_one(tools, algebra: Algebra) -> None:
    a, b = algebra.label(3), algebra.label(3)
    C, D = RNG.normal(size=3), RNG.normal(size=3)
    form = algebra.plus(
        scaled(algebra, seed(algebra, None), C, a), scaled(algebra, seed(algebra, None), D, b)
    )
    assert form.axes in [(a,), (b,)]
    np.testing.assert_allclose(tools.written_out(form, H, {}), (C + D) * H)


def test_one_label_on_two_axes_is_refused(algebra: Algebra) -> None:
    a, b = algebra.label(3), algebra.label(3)
    C = RNG.normal(size=(3, 3))
    form = scaled(algebra, seed(algebra, None, None), C, a, b)
    with pytest.raises(NotFusable, match=r"^two axes of one difference follow the same index$"):
        algebra.relabel(form, a, b)


# -- checks ----------------------------------------------------------------------------------------


def refuses(tools: Any, algebra: Algebra, step: float, **at: Any) -> bool:
    ((value, bound),) = algebra.limits
    condition = value.exceeds(algebra.table.load(bound))
    for label in condition.labels:
        condition = condition.any(label)
    return bool(tools.evaluate(condition, step, **at))


def test_a_step_that_crosses_a_bound_anywhere_is_refused(tools, algebra: Algebra) -> None:
    a = algebra.label(3)
    form = scaled(algebra, seed(algebra, None), np.array([1.0, -2.0, 0.0]), a)
    algebra.check(form, known(np.array([1.0, 1.0, 1e-9]), (a,)))
    assert not refuses(tools, algebra, 0.499)
    assert not refuses(tools, algebra, -0.499)
    assert refuses(tools, algebra, 0.501)


def test_a_bound_on_a_single_term_is_one_comparison(algebra: Algebra) -> None:
    a = algebra.label(30)
    algebra.check(scaled(algebra, seed(algebra, None), np.ones(30), a), number(1.0))
    ((value, bound),) = algebra.limits
    assert value is algebra.table.step()
    assert bound.dims == ()


def test_a_bound_of_zero_refuses_whatever_moves(tools, algebra: Algebra) -> None:
    algebra.check(seed(algebra), number(0.0))
    assert refuses(tools, algebra, 1e-300)
    assert not refuses(tools, algebra, 0.0)


def test_nan_is_refused(tools, algebra: Algebra) -> None:
    algebra.check_argument(seed(algebra))
    assert refuses(tools, algebra, float("nan"))


def test_bounds_hold_for_a_sum_of_terms(tools, algebra: Algebra) -> None:
    step = algebra.table.step()
    form = algebra.plus(algebra.variable((), step), algebra.variable((), step * step))
    algebra.check(form, number(0.75))
    assert not refuses(tools, algebra, 0.49)
    assert not refuses(tools, algebra, -0.99)
    assert refuses(tools, algebra, 0.51)
