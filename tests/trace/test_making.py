"""Arrays made inside the loss can take traced values; NumPy itself is never changed."""

import threading
from typing import Any

import numpy as np
import numpy as other_name
import pytest
from numpy import array, zeros

from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.traced import Traced
from fastcheck.trace.tracer import trace

from .conftest import traced

MAKERS = (
    "zeros ones empty full zeros_like ones_like empty_like full_like array asarray asanyarray "
    "ascontiguousarray asfortranarray sum mean max min dot"
).split()
DATA = np.ones((3, 4))


@pytest.mark.parametrize(
    "make",
    [
        lambda a: np.zeros((3, 4)),
        lambda a: np.zeros(a.shape),
        lambda a: np.ones(shape=(3, 4)),
        lambda a: np.full((3, 4), 2.0),
        lambda a: np.eye(3, 4),
        lambda a: np.eye(4)[[0, 2, 2]],
        lambda a: np.tri(3, 4),
        lambda a: np.identity(4)[:3],
        lambda a: np.full((3, 4), a[0, 0]),
        lambda a: np.zeros_like(a),
        lambda a: np.zeros_like(DATA),
        lambda a: np.ones_like(DATA),
        lambda a: np.full_like(DATA, a[0, 0]),
        lambda a: np.full_like(DATA, 3.0),
        lambda a: other_name.zeros((3, 4)),
        lambda a: zeros((3, 4)),
    ],
)
def test_a_made_array_takes_traced_values(x: np.ndarray, make: Any) -> None:
    def loss(a: Any) -> Any:
        made = make(a)
        made[1] = a[0] * 2
        made[:, 2] += a[:, 0]
        return np.sum(made**2)

    traced(loss, x)


def test_an_empty_array_that_is_filled(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        made = np.empty((3, 4))
        for i in range(3):
            made[i] = a[i] ** 2
        return made.sum()

    traced(loss, x)


def test_integer_arrays_stay_ordinary(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        rows = np.zeros(2, dtype=int)
        assert isinstance(rows, np.ndarray)
        return a[rows].sum()

    traced(loss, x)


def test_lists_of_traced_numbers_become_arrays(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        rows = [[a[0, 0], 1.0], [a[1, 1], a[2, 2]]]
        return np.sum(np.array(rows) @ array([a[0, 1], 2.0])) + np.sum([row[0] for row in rows])

    traced(loss, x)


def test_uninitialised_memory_makes_no_difference(x: np.ndarray) -> None:
    graph = trace(lambda a: a.sum() + 0 * np.empty(5).sum(), ParamTree.from_user(x))
    assert float(graph.output.value) == x.sum()


def test_preallocated_states_of_a_recurrent_network(x: np.ndarray) -> None:
    def loss(p: Any) -> Any:
        h = np.zeros((5, 3))
        for t in range(4):
            h[t + 1] = np.tanh(p["U"] @ h[t] + p["W"][:, t % 4])
        return np.sum(h[-1] ** 2)

    traced(loss, {"U": x[:, :3].copy(), "W": x})


def current() -> dict[str, Any]:
    return {name: getattr(np, name) for name in MAKERS}


def test_numpy_is_as_before_after_a_trace(x: np.ndarray) -> None:
    before, module = current(), np
    trace(lambda a: np.zeros(3).sum() + a.sum(), ParamTree.from_user(x))
    assert current() == before
    assert np is module
    assert type(np.zeros(3)) is np.ndarray
    assert type(zeros(3)) is np.ndarray


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_numpy_is_as_before_after_an_exception(x: np.ndarray, error: type) -> None:
    before = current()

    def loss(a: Any) -> Any:
        raise error

    with pytest.raises(BaseException):  # noqa: B017
        trace(loss, ParamTree.from_user(x))
    assert current() == before
    assert type(np.zeros(3)) is np.ndarray


def test_other_threads_get_ordinary_arrays(x: np.ndarray) -> None:
    seen: list[type] = []

    def loss(a: Any) -> Any:
        def make() -> None:
            seen.extend(map(type, (np.zeros(2), np.ones(2), np.array([1.0]), zeros(2))))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        assert type(np.zeros(2)) is Traced
        return a.sum()

    trace(loss, ParamTree.from_user(x))
    assert set(seen) == {np.ndarray}


def test_two_threads_may_trace_at_once(x: np.ndarray) -> None:
    values: list[float] = []

    def loss(a: Any) -> Any:
        made = np.zeros(3)
        for i in range(3):
            made[i] = np.sum(a[i] ** 2)
        return made.sum()

    def work() -> None:
        values.append(float(trace(loss, ParamTree.from_user(x)).output.value))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert values == pytest.approx([np.sum(x**2)] * 4)
    assert type(np.zeros(3)) is np.ndarray


def test_a_loss_may_trace_another(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        trace(lambda b: np.zeros(2).sum() + b.sum(), ParamTree.from_user(DATA))
        made = np.zeros(3)
        made[0] = a[0, 0]
        return made.sum()

    traced(loss, x)


def test_random_numbers_are_drawn_as_usual(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        rng = np.random.default_rng(0)
        keep = rng.random(a.shape) < 0.8
        return np.sum(a * keep / 0.8 + rng.normal(size=4) + np.random.RandomState(1).rand(3, 1))

    traced(loss, x)


def test_a_made_array_passes_where_numpy_wants_a_real_one(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        grid = np.ones(3)
        assert sum(grid.tolist()) == 3.0
        return np.sum(a[:, 0] * grid) + np.random.default_rng(0).choice(grid)

    traced(loss, x)


def test_an_array_from_elsewhere_takes_traced_values(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        made = np.random.default_rng(0).random(4)
        made[0] = a[0, 0]
        return made.prod()

    assert escaped_number(traced(loss, x), "params") is None


def test_an_array_of_code_without_a_source_cannot_take_traced_values(x: np.ndarray) -> None:
    space: dict[str, Any] = {"np": np}
    exec(
        "def loss(a):\n"
        "    made = np.random.default_rng(0).random(4)\n"
        "    made[0] = a[0, 0]\n"
        "    return made.sum()\n",
        space,
    )
    reason = escaped_number(trace(space["loss"], ParamTree.from_user(x)), "params")
    assert reason is not None
    assert "a plain Python number is made of an array that depends on params" in reason
