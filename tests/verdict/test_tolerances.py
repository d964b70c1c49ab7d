"""The table of tolerances, and the user's own."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.errors import InputError, InputTypeError
from fastcheck.verdict.tolerances import tolerance_for


@pytest.mark.parametrize(
    ("dtype", "rtol", "gamma", "rho_max"),
    [
        ("float64", 1e-6, 1e-12, 1e-4),
        ("float32", 1e-4, 1e-4, 5e-2),
        ("float16", 1e-2, 1e-2, 1e-1),
    ],
)
def test_the_dtype_sets_the_tolerance(dtype, rtol, gamma, rho_max):
    tolerance = tolerance_for([np.dtype(dtype)])
    assert (tolerance.rtol, tolerance.gamma, tolerance.rho_max) == (rtol, gamma, rho_max)


def test_the_coarsest_dtype_decides():
    mixed = [np.dtype("float64"), np.dtype("float32"), np.dtype("float64")]
    assert tolerance_for(mixed) == tolerance_for([np.dtype("float32")])


def test_the_users_tolerance_moves_the_resolution_in_proportion():
    tolerance = tolerance_for([np.dtype(float)], 1e-7)
    assert tolerance.rtol == 1e-7
    assert tolerance.rho_max == pytest.approx(1e-5)


@pytest.mark.parametrize("value", [1e-9, 1e-4])
def test_the_users_tolerance_also_counts_against_the_largest_element(value):
    assert tolerance_for([np.dtype(float)], value).gamma == value


def test_the_resolution_is_never_coarser_than_a_tenth():
    assert tolerance_for([np.dtype(float)], 0.5).rho_max == 0.1


@pytest.mark.parametrize("value", [0, -1e-6, 1, 2.0, np.nan, np.inf])
def test_a_tolerance_outside_0_to_1_is_an_error(value):
    with pytest.raises(InputError, match=r"`tolerance` must lie between 0 and 1, but it is"):
        tolerance_for([np.dtype(float)], value)


@pytest.mark.parametrize("value", ["1e-6", True, [1e-6], 1j])
def test_a_tolerance_that_is_no_number_is_a_type_error(value):
    with pytest.raises(InputTypeError, match=r"`tolerance` must be a number or None, but it is a"):
        tolerance_for([np.dtype(float)], value)


def test_a_tolerance_below_rounding_is_an_error_that_says_what_is_possible():
    with pytest.raises(InputError) as caught:
        tolerance_for([np.dtype("float32")], 1e-7)
    assert str(caught.value) == (
        "`tolerance` is 1e-07, finer than a gradient in float32 can be computed: give at least "
        "3.8e-06, or leave it out."
    )
