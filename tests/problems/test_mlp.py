"""The plain network of any sizes."""

import numpy as np
import pytest

from fastcheck.errors import InputError
from fastcheck.problems import load_digits, mlp


@pytest.mark.parametrize("sizes", [(6, 3), (6, 5, 3), (6, 5, 4, 3)])
def test_gradients_agree_with_central_differences(sizes: tuple[int, ...]) -> None:
    problem = mlp.mlp_problem(sizes, 7)
    for name, gradient in problem.gradients().items():
        numeric = np.zeros_like(gradient)
        for index in np.ndindex(gradient.shape):
            moved = {key: value.copy() for key, value in problem.params.items()}
            moved[name][index] += 1e-5
            plus = problem.loss(moved)
            moved[name][index] -= 2e-5
            numeric[index] = (plus - problem.loss(moved)) / 2e-5
        np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-9)


def test_784_10_10_has_the_seven_thousand_nine_hundred_and_sixty_parameters() -> None:
    params = mlp.init((784, 10, 10))
    assert list(params) == ["W1", "b1", "W2", "b2"]
    assert sum(value.size for value in params.values()) == 7960


def test_gradients_come_in_the_order_of_the_parameters() -> None:
    problem = mlp.mlp_problem((6, 5, 4, 3), 2)
    assert list(problem.gradients()) == list(problem.params)


def test_the_loss_is_a_python_float() -> None:
    problem = mlp.mlp_problem((6, 5, 3), 2)
    assert type(problem.loss(problem.params)) is float


def test_a_moment_of_training_learns_the_digits() -> None:
    sizes = (784, 10, 10)
    X, Y = mlp.make_batch(sizes, 128)
    before = mlp.init(sizes)
    after = mlp.train(before, X, Y, iterations=100)
    assert mlp.loss(after, X, Y) < 0.5 * mlp.loss(before, X, Y)
    assert mlp.accuracy(after, X, Y) > 0.8


def test_training_leaves_the_given_parameters_alone() -> None:
    params = mlp.init((6, 5, 3))
    X, Y = mlp.make_batch((6, 5, 3), 4)
    mlp.train(params, X, Y, iterations=3)
    for name, value in mlp.init((6, 5, 3)).items():
        np.testing.assert_array_equal(params[name], value)


def test_large_scores_do_not_overflow() -> None:
    np.testing.assert_allclose(mlp.softmax(np.array([[1000.0], [1000.0]])), 0.5)


def test_a_batch_of_digits_has_samples_in_columns_and_one_hot_targets() -> None:
    X, Y = mlp.make_batch((784, 10, 10), 100)
    images, labels = load_digits()
    assert X.shape == (784, 100)
    np.testing.assert_array_equal(Y.sum(axis=0), 1)
    where = int(np.flatnonzero((images == X[:, 0]).all(axis=1))[0])
    assert Y[labels[where], 0] == 1


def test_a_batch_larger_than_the_digits_reuses_them() -> None:
    assert mlp.make_batch((784, 10), 700)[0].shape == (784, 700)


def test_fewer_outputs_take_fewer_classes() -> None:
    X, Y = mlp.make_batch((784, 3), 20)
    assert X.shape == (784, 20)
    assert Y.shape == (3, 20)


def test_inputs_that_are_no_picture_get_noise() -> None:
    X, _ = mlp.make_batch((20, 5, 3), 9)
    assert X.shape == (20, 9)
    assert (X < 0).any()


def test_the_same_seed_gives_the_same_problem() -> None:
    one, two = mlp.mlp_problem((20, 5, 3), 9, seed=4), mlp.mlp_problem((20, 5, 3), 9, seed=4)
    assert one.loss(one.params) == two.loss(two.params)


def test_given_data_are_used() -> None:
    images, labels = np.eye(4), np.array([0, 1, 1, 0])
    X, _ = mlp.make_batch((4, 2), 4, (images, labels))
    np.testing.assert_array_equal(np.sort(X.argmax(axis=0)), np.arange(4))


@pytest.mark.parametrize(
    ("sizes", "batch", "images", "labels", "message"),
    [
        ((4, 2), 9, (4, 4), [0, 1, 1, 0], "`batch` is 9 but `data` holds 4 samples; ask for fewer"),
        ((5, 2), 4, (4, 4), [0, 1, 1, 0], "`data` has images of shape .* takes 5 inputs; make the"),
        ((4, 2), 4, (4, 4), [0, 1, 1], "`data` has 4 images but labels of shape"),
        ((4, 2), 4, (4, 4), [0, 1, 2, 0], "`data` has labels 0 to 2 but the network has 2 outputs"),
        ((4, 2), 0, (4, 4), [0, 1, 1, 0], "`batch` is 0; give at least one sample"),
    ],
)
def test_data_that_do_not_fit_are_refused(
    sizes: tuple[int, ...], batch: int, images: tuple[int, ...], labels: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        mlp.make_batch(sizes, batch, (np.zeros(images), np.array(labels)))


@pytest.mark.parametrize("sizes", [(3,), (3, 0, 2)])
def test_impossible_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"`sizes` is .*; give at least two positive numbers"):
        mlp.init(sizes)
