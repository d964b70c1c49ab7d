"""Expressions: parity, sharing, labels, renaming."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.fusion.dims import Label, NotFusable, Pin
from fastcheck.fusion.expression import Parity, Table, in_order
from fastcheck.fusion.hoisted import known

EVEN, ODD, MIXED = Parity.EVEN, Parity.ODD, Parity.MIXED


@pytest.fixture
def table() -> Table:
    return Table()


# -- parity ----------------------------------------------------------------------------------------


def test_the_step_is_odd_and_constants_are_even(table: Table) -> None:
    assert table.step().parity is ODD
    assert table.constant(3.0).parity is EVEN
    assert table.load(known(2.0, ())).parity is EVEN


def test_products_and_quotients_multiply_parities(table: Table) -> None:
    h, c = table.step(), table.constant(3.0)
    assert (h * h).parity is EVEN
    assert (h * h * h).parity is ODD
    assert (c / h).parity is ODD
    assert (h / (h * h)).parity is ODD
    assert ((h + c) * (h + c)).parity is MIXED


def test_sums_of_one_parity_keep_it(table: Table) -> None:
    h = table.step()
    assert (h + h * h * h).parity is ODD
    assert (h * h - 1.0).parity is EVEN
    assert (h + 1.0).parity is MIXED


def test_a_square_root_is_even_of_even_only(table: Table) -> None:
    h = table.step()
    assert (h * h).sqrt().parity is EVEN
    assert h.sqrt().parity is MIXED


def test_a_sum_over_a_label_keeps_the_parity(table: Table) -> None:
    label = Label(0, 3)
    c = table.load(known(np.ones(3), (label,)))
    assert (c * table.step()).sum(label).parity is ODD


def test_conditions_concern_both_signs(table: Table) -> None:
    h = table.step()
    assert h.exceeds(table.constant(1.0)).parity is EVEN


@pytest.mark.parametrize("h", [0.3, 1e-9])
def test_parity_is_what_evaluation_gives(tools, table: Table, h: float) -> None:
    s = table.step()
    odd, even = s * (s * s + 2.0) / 3.0, (s * s + 1.0).sqrt() - 4.0
    assert tools.evaluate(odd, -h) == -tools.evaluate(odd, h)
    assert tools.evaluate(even, -h) == tools.evaluate(even, h)


# -- sharing ---------------------------------------------------------------------------------------


def test_equal_expressions_are_one(table: Table) -> None:
    h = table.step()
    assert h * 2.0 + 1.0 is table.step() * 2.0 + 1.0
    assert table.constant(2) is table.constant(2.0)


def test_different_expressions_are_not(table: Table) -> None:
    h, c = table.step(), table.constant(2.0)
    assert h - c is not c - h
    assert table.load(known(1.0, ())) is not table.load(known(1.0, ()))


def test_zero_and_one_leave_no_operation(table: Table) -> None:
    h = table.step()
    assert h + 0.0 is h
    assert 0.0 + h is h
    assert h - 0.0 is h
    assert 1.0 * h is h
    assert h / table.constant(1.0) is h


def test_negation_is_exact(tools, table: Table) -> None:
    assert tools.evaluate(-table.step(), 0.1) == -0.1


def test_operands_come_first_and_once(table: Table) -> None:
    h = table.step()
    square = h * h
    order = list(in_order(square + h, square))
    assert len(order) == len(set(order)) == 3
    assert order.index(h) < order.index(square)


# -- labels ----------------------------------------------------------------------------------------


def test_labels_are_those_of_the_operands_less_what_is_summed(table: Table) -> None:
    a, b, pin = Label(0, 3), Label(1, 4), Pin(0, 2)
    c = table.load(known(np.ones((2, 3, 4)), (pin, a, b)))
    assert c.labels == {a, b}
    assert c.sum(a).labels == {b}
    assert c.exceeds(table.step()).any(b).labels == {a}


def fresh(size: int) -> Label:
    return Label(99, size)


def test_substitute_renames_a_free_label(tools, table: Table) -> None:
    old, new = Label(0, 3), Label(1, 3)
    c = table.load(known(np.array([1.0, 2.0, 4.0]), (old,)))
    renamed = table.substitute(c * table.step() + 1.0, old, new, fresh)
    assert renamed.labels == {new}
    assert [tools.evaluate(renamed, 0.5, {new: k}) for k in range(3)] == [1.5, 2.0, 3.0]


def test_substitute_leaves_a_summed_label_alone(tools, table: Table) -> None:
    old, new = Label(0, 3), Label(1, 3)
    c = table.load(known(np.array([1.0, 2.0, 4.0]), (old,)))
    total = c.sum(old)
    assert table.substitute(total * table.step(), old, new, fresh) is total * table.step()
    assert tools.evaluate(total, 0.0) == 7.0


def test_substitute_keeps_what_has_not_the_label(table: Table) -> None:
    expression = table.step() * 2.0
    assert table.substitute(expression, Label(0, 3), Label(1, 3), fresh) is expression


def test_substitute_refuses_a_label_that_is_there(table: Table) -> None:
    old, new = Label(0, 3), Label(1, 3)
    c = table.load(known(np.ones((3, 3)), (old, new)))
    with pytest.raises(NotFusable, match="two axes of one array follow the same index"):
        table.substitute(c, old, new, fresh)


def test_substitute_does_not_let_a_sum_capture_the_name(tools, table: Table) -> None:
    old, new = Label(0, 3), Label(1, 3)
    c = table.load(known(np.array([1.0, 2.0, 4.0]), (old,)))
    d = table.load(known(np.array([1.0, 10.0, 100.0]), (new,)))
    renamed = table.substitute((c * d).sum(new), old, new, fresh)
    assert renamed.labels == {new}
    assert [tools.evaluate(renamed, 0.0, {new: k}) for k in range(3)] == [111.0, 222.0, 444.0]
