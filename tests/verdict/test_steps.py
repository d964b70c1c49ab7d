"""The choice of a step, and the user's own."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastcheck.engines.loop import LoopEngine
from fastcheck.engines.loss import LossFunction
from fastcheck.errors import InputError, InputTypeError
from fastcheck.params import ParamTree
from fastcheck.verdict.steps import auto_step, exact_step, power_of_two, scale_of, validate_step


def tensor_of(values):
    return ParamTree.from_user(np.asarray(values, dtype=float)).tensors[0]


def chosen(function, values, *, noise=None, central=True):
    tree = ParamTree.from_user(np.asarray(values, dtype=float))
    engine = LoopEngine(LossFunction(function, tree), tree)
    noise = 2.0**-53 * abs(engine.loss) if noise is None else noise
    h, _, _ = auto_step(
        engine,
        tree.tensors[0],
        np.arange(tree.size),
        noise=noise,
        tau=1e-7,
        central=central,
        rng=np.random.default_rng(0),
    )
    return h


@pytest.mark.parametrize(
    ("values", "scale"),
    [([1.0, -1.0], 1.0), ([0.0, 0.0], 1.0), ([], 1.0), ([3e200, 4e200], None), ([1e-3], 2.0**-10)],
)
def test_the_scale_is_the_rms_as_a_power_of_two(values, scale):
    found = scale_of(tensor_of(values) if values else _empty())
    assert math.frexp(found)[0] == 0.5
    if scale is not None:
        assert found == scale


def _empty():
    return ParamTree.from_user([np.ones(1), np.zeros(0)]).tensors[1]


def test_an_exact_step_is_tiny_and_follows_the_scale():
    assert exact_step(tensor_of([1.0])) == 2.0**-30
    assert exact_step(tensor_of([1024.0])) == 2.0**-20


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 21, 500])
def test_an_exact_step_follows_the_tenth_percentile(count):
    values = np.random.default_rng(count).lognormal(sigma=3.0, size=count)
    scale = scale_of(tensor_of(values))
    small = min(max(float(np.quantile(values, 0.1)), 2.0**-20 * scale), scale)
    assert exact_step(tensor_of(values)) == 2.0**-30 * power_of_two(small)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_the_step_follows_the_scale_of_the_parameters(scale):
    values = np.linspace(0.5, 1.5, 8)
    h = chosen(lambda w: np.sum(np.exp(w / scale)), scale * values)
    assert 1e-6 * scale < h < 1e-3 * scale


def test_the_step_is_a_power_of_two():
    h = chosen(lambda w: np.sum(np.exp(w)), np.linspace(0.5, 1.5, 8))
    assert math.frexp(h)[0] == 0.5


def test_noise_calls_for_a_larger_step():
    values = np.linspace(0.5, 1.5, 8)
    rng = np.random.default_rng(0)
    quiet = chosen(lambda w: np.sum(np.exp(w)), values)
    noisy = chosen(lambda w: np.sum(np.exp(w)) + 1e-8 * rng.standard_normal(), values, noise=1e-8)
    assert noisy > 16 * quiet


def test_parameters_tiny_beside_their_natural_scale_get_a_step_that_beats_the_noise():
    h = chosen(lambda w: np.sum(np.exp(w)), 1e-12 * np.linspace(0.5, 1.5, 8))
    assert h > 1e-9


def test_a_step_over_the_edge_of_the_domain_shrinks():
    with np.errstate(invalid="ignore"):
        h = chosen(lambda w: np.sum(np.log(w)), [1e-7] * 6 + [1.0] * 2)
    assert h < 1e-7


def test_dead_parameters_do_not_mislead_the_choice():
    weights = np.zeros(60)
    weights[7] = 1.0
    live = chosen(lambda w: np.exp(w[7]), np.ones(60))
    assert 1e-6 < live < 1e-3


def test_forward_differences_take_smaller_steps():
    values = np.linspace(0.5, 1.5, 8)
    assert chosen(lambda w: np.sum(np.exp(w)), values, central=False) < 1e-6


TREE = ParamTree.from_user({"W1": np.array([1e3, -2.0]), "b": np.zeros(2)})


@pytest.mark.parametrize("step", ["auto", 0.3, 1e-4, 1, np.float32(0.5)])
def test_usable_steps_are_accepted(step):
    assert validate_step(step, TREE) == step


@pytest.mark.parametrize("step", [0, 0.0, -1e-4, np.nan, np.inf])
def test_a_step_that_is_not_positive_and_finite_is_an_error(step):
    with pytest.raises(InputError, match=r"`step` must be positive and finite, but it is"):
        validate_step(step, TREE)


@pytest.mark.parametrize("step", ["small", None, True, [1e-4], 1j])
def test_a_step_that_is_no_number_is_a_type_error(step):
    with pytest.raises(InputTypeError, match=r'`step` must be "auto" or a positive number, but'):
        validate_step(step, TREE)


def test_a_step_below_the_spacing_of_floats_is_an_error_that_says_what_is_possible():
    with pytest.raises(InputError) as caught:
        validate_step(1e-14, TREE)
    assert str(caught.value) == (
        "`step` is 1e-14, below the spacing of floats at `W1`, whose largest value is 1000: "
        "θ + h would be θ again. The smallest usable step there is 1.1e-13; leave it at "
        '"auto" to have it chosen.'
    )
