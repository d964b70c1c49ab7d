"""Small things that are computed in the quickest way that gives the same."""

from __future__ import annotations

import numpy as np
import pytest

from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.params import ParamTree
from fastcheck.verdict.bars import largest
from fastcheck.verdict.comparison import norm
from fastcheck.verdict.exact import _largest_first
from fastcheck.verdict.lazily import lazily
from fastcheck.verdict.probing import Probe


@pytest.mark.parametrize(
    ("values", "top", "length"),
    [
        ([], 0.0, 0.0),
        ([0.0, -0.0], 0.0, 0.0),
        ([3.0, -4.0], 4.0, 5.0),
        ([3.0, np.nan, -4.0], 4.0, 5.0),
        ([3.0, np.inf, -4.0, -np.inf], 4.0, 5.0),
        ([np.nan, np.inf], 0.0, 0.0),
        ([3e200, -4e200, np.nan], 4e200, 5e200),
        ([3e-200, 4e-200], 4e-200, 5e-200),
    ],
)
def test_what_is_not_finite_has_no_size(values, top, length):
    with np.errstate(all="raise"):
        assert largest(np.array(values)) == top
        assert norm(np.array(values)) == pytest.approx(length, rel=1e-15)


@pytest.mark.parametrize("count", [1, 8, 9, 40])
def test_the_largest_come_first_and_equal_ones_in_their_order(count):
    values = np.random.default_rng(count).integers(0, 6, count).astype(float)
    expected = np.argsort(-values, kind="stable")[:8]
    np.testing.assert_array_equal(_largest_first(values, 8), expected)


def test_several_steps_at_once_are_the_same_as_one_after_the_other():
    tree = ParamTree.from_user(np.linspace(-1.0, 1.0, 5))
    engine = LoopEngine(LossFunction(lambda w: np.sum(np.exp(w)), tree), tree)
    indices = np.array([4, 0, 2])
    steps = [np.full(3, 1e-3), np.array([1e-4, 2e-4, 3e-4])]
    probe, alone = Probe(engine, "params"), Probe(engine, "params")
    for found, step in zip(probe.at_each(indices, steps), steps, strict=True):
        expected = alone.differences(indices, step)
        np.testing.assert_array_equal(found.plus, expected.plus)
        np.testing.assert_array_equal(found.minus, expected.minus)
        np.testing.assert_array_equal(found.step_plus, expected.step_plus)
    assert probe.loss_calls == alone.loss_calls


def test_what_is_computed_lazily_is_computed_once():
    class Half:
        asked = 0

        @lazily
        def value(self):
            """A docstring."""
            self.asked += 1
            return 0.5

    one, other = Half(), Half()
    assert (one.value, one.value, one.asked) == (0.5, 0.5, 1)
    assert other.asked == 0
    assert Half.value.__doc__ == "A docstring."
