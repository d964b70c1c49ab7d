"""The bugs to plant: each spoils what it says and nothing else."""

import numpy as np
import pytest

from fastcheck.errors import InputError
from fastcheck.problems import mlp
from fastcheck.problems.bugs import BUGS, Context, plant, spoilt_gradients, spoilt_problem

SHAPES = [(784, 10, 10), (12, 9, 9, 8, 4), (20, 5, 3), (16, 7)]


def context(sizes: tuple[int, ...], batch: int = 32) -> Context:
    X, Y = mlp.make_batch(sizes, batch)
    return Context(mlp.train(mlp.init(sizes), X, Y, 5), X, Y)


def possible(bug: str, sizes: tuple[int, ...]) -> bool:
    return bool(BUGS[bug].breaks(context(sizes)))


CASES = [(bug, sizes) for bug in BUGS for sizes in SHAPES if possible(bug, sizes)]


@pytest.mark.parametrize(("bug", "sizes"), CASES)
def test_a_bug_changes_exactly_the_tensors_that_it_names(bug: str, sizes: tuple[int, ...]) -> None:
    place = context(sizes)
    right = mlp.gradients(place.params, place.X, place.Y)
    wrong = plant(bug, place)
    assert list(wrong) == list(right)
    changed = {name for name in right if not np.array_equal(right[name], wrong[name])}
    assert changed == set(BUGS[bug].breaks(place))


@pytest.mark.parametrize(("bug", "sizes"), CASES)
def test_a_bug_is_larger_than_rounding(bug: str, sizes: tuple[int, ...]) -> None:
    place = context(sizes)
    wrong = plant(bug, place)
    for name in BUGS[bug].breaks(place):
        error = np.abs(wrong[name] - place.grads[name]).max()
        assert error > 1e-3 * np.abs(place.grads[name]).max()


@pytest.mark.parametrize(("bug", "sizes"), CASES)
def test_a_bug_keeps_the_shapes_or_takes_one_column(bug: str, sizes: tuple[int, ...]) -> None:
    place = context(sizes)
    wrong = plant(bug, place)
    assert {k: v.shape for k, v in wrong.items()} == {k: v.shape for k, v in place.params.items()}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_the_same_each_time(bug: str) -> None:
    one, two = plant(bug, context(SHAPES[0])), plant(bug, context(SHAPES[0]))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_leaves_the_parameters_alone(bug: str) -> None:
    place, untouched = context(SHAPES[0]), context(SHAPES[0])
    plant(bug, place)
    for name in place.params:
        np.testing.assert_array_equal(place.params[name], untouched.params[name])


def test_every_bug_can_occur_in_784_10_10() -> None:
    assert all(possible(bug, (784, 10, 10)) for bug in BUGS)


def test_stale_gradients_are_those_of_the_parameters_before() -> None:
    place = context((20, 5, 3))
    before = mlp.init((20, 5, 3))
    stale = spoilt_gradients(place.params, place.X, place.Y, "stale", before)
    for name, gradient in mlp.gradients(before, place.X, place.Y).items():
        np.testing.assert_array_equal(stale[name], gradient)


def test_a_spoilt_problem_computes_the_wrong_gradients() -> None:
    X, Y = mlp.make_batch((20, 5, 3), 8)
    right = mlp.mlp_problem((20, 5, 3), 8)
    wrong = spoilt_problem(right, X, Y, "sign")
    np.testing.assert_array_equal(wrong.gradients()["W2"], -right.gradients()["W2"])
    assert wrong.loss is right.loss


def test_an_unknown_bug_is_refused_with_the_list() -> None:
    with pytest.raises(InputError, match=r"`bug` is 'gremlin'; choose one of sign, scale, .*stale"):
        plant("gremlin", context((20, 5, 3)))


def test_a_bug_that_cannot_occur_is_refused_with_those_that_can() -> None:
    with pytest.raises(InputError, match=r"'missing-mask', which changes nothing .* 1 layers") as e:
        plant("missing-mask", context((16, 7)))
    assert "choose one of sign, scale" in str(e.value)
    assert "transpose" not in str(e.value)


def test_one_sample_leaves_no_batch_to_forget() -> None:
    place = context((784, 10, 10), batch=1)
    assert not BUGS["missing-mean"].breaks(place)
    assert not BUGS["missing-bias-sum"].breaks(place)
