"""Code that goes element by element: np.vectorize, np.ndenumerate, lists of lists, made arrays."""

from typing import Any

import numpy as np
import pytest

from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced

squash = np.vectorize(lambda b: b / (1 + abs(b)))
ramp = np.vectorize(lambda b, slope: b if b > 0 else slope * b, otypes=[float])


def _lists(a: Any) -> Any:
    rows = [[0.0] * 3 for _ in range(3)]
    for i in range(3):
        for j in range(3):
            rows[i][j] = np.dot(a[i], a[j])
    return rows


def _mask(a: Any) -> Any:
    mask = np.zeros(a.shape, dtype=bool)
    mask[a > 0.4] = True
    mask[0] |= a[1] < 0
    return mask


def _places(a: Any) -> Any:
    places = np.zeros((3, 2), dtype=int)
    for i in range(3):
        places[i] = i, np.argmax(a[i])
    return places


LOSSES = [
    lambda a: np.sum(squash(a) ** 2),
    lambda a: np.sum(ramp(a, 0.1) * a),
    lambda a: np.sum(ramp(a, [1.0, 0.2, 0.3, 0.4])),
    lambda a: np.sum(np.vectorize(np.tanh)(a[1:]) ** 3),
    lambda a: np.sum(np.vectorize(lambda b: 0 if b < 0.5 else b)(a)),  # whole numbers, as NumPy's
    lambda a: sum(b * (i + 2 * j) for (i, j), b in np.ndenumerate(a)),
    lambda a: np.mean(np.square(_lists(a))),
    lambda a: np.sum(np.exp(_lists(a)) * np.add(_lists(a), 1.0)),
    lambda a: np.sum(np.maximum.reduce([a[0], a[1], a[2]])),
    lambda a: np.sum(a[_mask(a)] ** 2) + np.sum(a * _mask(a)),
    lambda a: np.sum(np.where(_mask(a), a, 0.1 * a)),
    lambda a: np.prod(a[_places(a)[:, 0], _places(a)[:, 1]]),
    lambda a: np.sum([a[i, j] for i, j in _places(a)]),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_it_is_traced_faithfully(loss: Any, x: np.ndarray) -> None:
    assert escaped_number(traced(loss, x), "params") is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.arange(4.0),
        lambda: np.linspace(0.0, 1.0, 4),
        lambda: np.logspace(0.0, 1.0, 4),
        lambda: np.array([0.0, 1.0, 2.0, 3.0]),
        lambda: np.asarray([0.0] * 4),
        lambda: np.ones(4, dtype=np.float32),
    ],
)
def test_an_array_made_in_the_loss_takes_traced_values(make: Any, x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        made = make()
        made += a[0].astype(made.dtype)
        made[1:3] = a[1, :2]
        return np.sum(made**2)

    traced(loss, x, relative=1e-6)


def test_vectorised_functions_are_the_user_s_own_again(x: np.ndarray) -> None:
    before = squash
    trace(lambda a: np.sum(squash(a)), ParamTree.from_user(x))
    assert squash is before
    assert type(squash) is np.vectorize
    np.testing.assert_allclose(squash(x), x / (1 + abs(x)))


def test_nditer_says_what_to_write(x: np.ndarray) -> None:
    message = refusal(lambda a: sum(float(b) for b in np.nditer(a)), x)
    assert "np.nditer cannot be traced" in message
    assert "np.ndenumerate" in message


@pytest.mark.parametrize(
    "use",
    [
        lambda a, out: np.divide(a, abs(a), out=out, where=a > 0.2),
        lambda a, out: np.log(a, out=out, where=a > 0),
        lambda a, out: np.maximum(a, 0.5, out=out, where=[True, False, True, False]),
        lambda a, out: np.add(out, a, where=a > 0, out=out),
        lambda a, out: np.exp(a[0], out=out[1], where=a[0] > 0),
        lambda a, out: np.add.reduce(a, axis=0, out=out[2], where=a > 0),
        lambda a, out: np.floor_divide(a, 0.3, out, where=out < 1.05),
    ],
)
def test_where_and_out_of_a_ufunc(use: Any, x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        out = np.ones((3, 4)) + 0.1 * np.arange(4)
        use(a, out)
        return np.sum(out**2) + a[0, 0]

    traced(loss, x)
