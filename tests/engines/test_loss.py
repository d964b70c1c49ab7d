"""The wrapper around the user's loss: what it accepts, refuses, counts and says."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from fastcheck.engines.loss import LossFunction
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree

TREE = ParamTree.from_user({"W": np.array([1.0, 2.0])})


def returning(value):
    return LossFunction(lambda params: value, TREE)


@pytest.mark.parametrize(
    "value",
    [
        3.0,
        3,
        np.float64(3),
        np.float32(3),
        np.int64(3),
        np.array(3.0),
        np.array([3.0]),
        np.array([[3.0]]),
        np.array([3]),
        Fraction(3),
    ],
    ids=repr,
)
def test_one_real_number_in_any_wrapping_is_accepted(value):
    loss = returning(value).base()
    assert loss == 3.0
    assert type(loss) is float


@pytest.mark.parametrize(
    ("value", "found", "remedy"),
    [
        ((3.0, {"a": 1}), "a tuple of 2", "return only the loss, e.g. pass loss=lambda p: f(p)[0]"),
        ([3.0], "a list of 1", "return only the loss"),
        (None, "None", "end the function with `return` and the loss"),
        (3.0 + 1j, "a complex value", "return its real part or its modulus"),
        (np.array(3.0 + 1j), "a complex value", "return its real part"),
        (np.array([True]), "a boolean array", "not a comparison of it"),
        (True, "a bool", "not a comparison of it"),
        ("3", "an object of type str", "return a float"),
        (np.array(["3"]), "an array of dtype <U1", "convert it with .astype(float)"),
        ({"loss": 3.0}, "an object of type dict", "return a float"),
        (object(), "an object of type object", "return a float"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_anything_else_is_a_type_error_with_the_remedy(value, found, remedy):
    with pytest.raises(InputTypeError) as caught:
        returning(value).base()
    assert str(caught.value).startswith(
        f"`loss` must return one real number, but it returned {found}: "
    )
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("value", "found", "remedy"),
    [
        (np.ones((1, 128)), "an array of shape (1, 128)", "reduce it with .sum() or .mean()"),
        (np.ones(0), "an empty array of shape (0,)", "reduce it over at least one sample"),
    ],
)
def test_an_array_of_other_than_one_element_is_an_error_that_shows_its_shape(value, found, remedy):
    with pytest.raises(InputError) as caught:
        returning(value).base()
    assert str(caught.value) == (
        f"`loss` must return one real number, but it returned {found}: {remedy}."
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_an_error_at_theta(value):
    with pytest.raises(InputError, match=r"`loss` is -?(nan|inf) at the given parameters"):
        returning(value).base()


def test_a_loss_that_is_not_finite_is_let_through_when_evaluating_elsewhere():
    assert np.isnan(returning(np.nan).evaluate(TREE.copies()))


def test_something_not_callable_is_a_type_error():
    with pytest.raises(InputTypeError, match=r"`loss` must be callable, but it is a float: pass"):
        LossFunction(3.0, TREE)


def test_calls_are_counted_and_timed():
    loss = returning(1.0)
    loss.base()
    loss.evaluate(TREE.copies())
    assert loss.calls == 2
    assert loss.seconds > 0


def test_every_call_at_theta_gets_fresh_copies():
    seen = []

    def loss(params):
        seen.append(params["W"].copy())
        params["W"] += 1
        return 0.0

    wrapped = LossFunction(loss, TREE)
    wrapped.base()
    wrapped.base()
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_deterministic_loss_repeats():
    assert LossFunction(lambda p: np.sum(p["W"] ** 2), TREE).repeatability() == 0.0


def test_a_loss_that_draws_random_numbers_does_not_repeat():
    rng = np.random.default_rng(0)
    assert LossFunction(lambda p: np.sum(p["W"]) + rng.random(), TREE).repeatability() > 0


def test_the_roundoff_of_a_float32_loss_is_noticed():
    loss = returning(np.float32(3))
    assert loss.unit_roundoff == 2.0**-53
    loss.base()
    assert loss.unit_roundoff == 2.0**-24


def test_errors_of_the_user_pass_through():
    def broken(params):
        raise KeyError("W9")

    with pytest.raises(KeyError, match="W9"):
        LossFunction(broken, TREE).base()
