"""Hoisted constants against NumPy, for all positions of their pins and for some."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.fusion.dims import Label, NotFusable, Pin
from fastcheck.fusion.hoisted import (
    Hoisted,
    Values,
    contraction,
    elementwise,
    known,
    number,
    product,
    renamed,
    smallest,
    taken,
    total,
)

P, Q = Pin(0, 2), Pin(1, 3)
A, B, C = Label(0, 4), Label(1, 5), Label(2, 4)
SIZES = {P: 2, Q: 3, A: 4, B: 5, C: 4}


def array(*dims: Pin | Label) -> np.ndarray:
    return np.random.default_rng(len(dims)).normal(size=[SIZES[dim] for dim in dims])


def value(hoisted: Hoisted) -> np.ndarray:
    return Values({}).of(hoisted)


def test_axes_are_put_in_order_with_pins_first() -> None:
    x = array(B, Q, A)
    hoisted = known(x, (B, Q, A))
    assert hoisted.dims == (Q, A, B)
    np.testing.assert_array_equal(value(hoisted), x.transpose(1, 2, 0))


def test_axes_of_size_one_are_dropped() -> None:
    assert known(np.ones((1, 4, 1)), (None, A, None)).dims == (A,)


def test_one_dimension_for_two_axes_is_refused() -> None:
    with pytest.raises(NotFusable, match="two axes of one array follow the same index"):
        known(np.ones((4, 4)), (A, A))


def test_a_product_broadcasts_by_name() -> None:
    x, y, z = array(P, A), array(A, B), array(Q)
    found = product(known(x, (P, A)), known(y, (A, B)), known(z, (Q,)))
    assert found.dims == (P, Q, A, B)
    np.testing.assert_allclose(value(found), np.einsum("pa,ab,q->pqab", x, y, z))


def test_a_product_of_one_is_itself() -> None:
    x = known(array(A), (A,))
    assert product(x) is x


def test_a_number_goes_with_anything() -> None:
    found = product(number(2.0), known(array(P, A), (P, A)))
    np.testing.assert_allclose(value(found), 2 * array(P, A))


def test_elementwise_applies_any_function() -> None:
    x, y = array(P), array(B)
    found = elementwise(np.minimum, known(x, (P,)), known(y, (B,)))
    np.testing.assert_array_equal(value(found), np.minimum(x[:, None], y))


def test_a_contraction_is_einsum() -> None:
    x, y = array(P, A, B), array(Q, B, A)
    found = contraction(known(x, (P, A, B)), known(y, (Q, B, A)), [B])
    assert found.dims == (P, Q, A)
    np.testing.assert_allclose(value(found), np.einsum("pab,qba->pqa", x, y))


def test_a_contraction_sums_a_label_that_one_operand_lacks() -> None:
    x, y = array(P, A), array(B)
    found = contraction(known(x, (P, A)), known(y, (B,)), [A, B])
    np.testing.assert_allclose(value(found), x.sum(axis=1) * y.sum())


def test_a_total_sums() -> None:
    x = array(P, A, B)
    np.testing.assert_allclose(value(total(known(x, (P, A, B)), [B])), x.sum(axis=2))


def test_the_smallest_is_the_minimum() -> None:
    x = array(P, A, B)
    found = smallest(known(x, (P, A, B)), [A, B])
    assert found.dims == (P,)
    np.testing.assert_array_equal(value(found), x.min(axis=(1, 2)))


def test_a_reduction_over_a_label_that_is_not_there_is_nothing() -> None:
    x = known(array(P), (P,))
    assert total(x, [A]) is x
    assert smallest(x, [A]) is x


def test_renaming_reorders() -> None:
    x = array(A, B)
    found = renamed(known(x, (A, B)), A, C)
    assert found.dims == (B, C)
    np.testing.assert_array_equal(value(found), x.T)


def test_renaming_what_is_not_there_is_nothing() -> None:
    x = known(array(B), (B,))
    assert renamed(x, A, C) is x


def test_renaming_to_a_label_that_is_there_is_refused() -> None:
    with pytest.raises(NotFusable, match="two axes of one array follow the same index"):
        renamed(known(array(A, C), (A, C)), A, C)


def test_taking_a_number_drops_the_label() -> None:
    x = array(P, A, B)
    found = taken(known(x, (P, A, B)), A, -1, None)
    assert found.dims == (P, B)
    np.testing.assert_array_equal(value(found), x[:, -1])


def test_taking_a_slice_gives_another_label() -> None:
    x, short = array(P, A, B), Label(9, 2)
    found = taken(known(x, (P, A, B)), A, slice(1, None, 2), short)
    assert found.dims == (P, B, short)
    np.testing.assert_array_equal(value(found), x[:, 1::2].transpose(0, 2, 1))


def test_sizes_and_depth() -> None:
    x = known(array(P, Q, A), (P, Q, A))
    assert x.size() == 24
    assert x.size(without=Q) == 8
    assert x.depth == 1
    assert product(total(x, [A]), x).depth == 3


# -- some positions --------------------------------------------------------------------------------


def test_chosen_positions_are_rows_of_all() -> None:
    x, y = array(P, Q, A), array(Q, A)
    found = contraction(known(x, (P, Q, A)), known(y, (Q, A)), [A])
    at = np.array([2, 0])
    np.testing.assert_array_equal(Values({Q: at}).of(found), value(found)[:, at])


def test_positions_of_a_pin_that_a_constant_lacks_do_not_matter() -> None:
    x = known(array(P, A), (P, A))
    np.testing.assert_array_equal(Values({Q: np.array([1])}).of(x), value(x))


def test_what_does_not_depend_on_the_chosen_pin_is_computed_once() -> None:
    calls = []

    def count(x: np.ndarray) -> np.ndarray:
        calls.append(x.shape)
        return x

    lasting = Values({})
    found = product(elementwise(count, known(array(P), (P,))), known(array(Q), (Q,)))
    for place in range(3):
        Values({Q: np.array([place])}, lasting).of(found)
    assert calls == [(2,)]
