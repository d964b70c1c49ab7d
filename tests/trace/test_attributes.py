"""Every attribute of ndarray is there on a traced array, or says what to write instead."""

from typing import Any

import numpy as np
import pytest

from fastcheck.params import ParamTree
from fastcheck.trace.attributes import ALTERNATIVES
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced


@pytest.mark.parametrize("name", dir(np.ndarray))
def test_an_attribute_exists_or_names_its_alternative(name: str, x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        if name in ALTERNATIVES:
            with pytest.raises(AttributeError) as caught:
                getattr(a, name)
            assert str(caught.value) == f"ndarray.{name} cannot be traced; {ALTERNATIVES[name]}"
            assert not hasattr(a, name)
        else:
            getattr(a, name)
        return a.sum()

    trace(loss, ParamTree.from_user(x))


def test_alternatives_are_named_only_for_what_ndarray_has() -> None:
    new = {"__class_getitem__", "__dlpack__", "__dlpack_device__"}
    assert set(ALTERNATIVES) - new <= set(dir(np.ndarray))


@pytest.mark.parametrize("name", sorted(ALTERNATIVES))
def test_using_what_is_missing_is_refused_with_the_alternative(name: str, x: np.ndarray) -> None:
    message = refusal(lambda a: getattr(a, name)() * a.sum(), x)
    assert ALTERNATIVES[name] in message


@pytest.mark.parametrize(
    "use",
    [
        lambda a: a.strides[0] * a.sum(),
        lambda a: (a.base is None) + (a[1:].base is None) * 2.0 + a.sum(),
        lambda a: a[1:].base.sum(),
        lambda a: (a.real * 2 + a.imag).sum(),
        lambda a: a.view().sum() + a.view(np.ndarray).prod() + a.view(a.dtype)[0, 0],
        lambda a: [b := a.copy(), b.view().fill(2.0)][0].prod() * a.sum(),
        lambda a: [b := a.copy(), b.partition(2), b][0][:, 2].sum(),
        lambda a: [b := a.copy(), b.put([0, -1], [5.0, a[0, 0]])][0].prod(),
        lambda a: a[:, a.argpartition(1)[0]].prod(),
        lambda a: (a > 0).astype(int).choose([a, -a]).prod(),
        lambda a: a.flat[3] * a.flat[2:5].sum() * len(a.flat),
        lambda a: sum(k * b for k, b in enumerate(a.T.flat)),
        lambda a: a.astype(int).__lshift__(1).sum() + (a.sum() if a.device == "cpu" else 0),
        lambda a: a.to_device("cpu").sum() if np.__version__ > "2" else a.sum(),
        lambda a: {0: 2.0, 1: 3.0, 2: 5.0, 3: 7.0}[np.argmax(a[0])] * a.sum(),
    ],
)
def test_an_attribute_gives_what_numpy_s_gives(x: np.ndarray, use: Any) -> None:
    if not hasattr(x, "device"):
        pytest.skip("NumPy 2 has it")
    traced(use, x)


@pytest.mark.parametrize(
    "write",
    [
        lambda a: a.flat.__setitem__(3, 2.0),
        lambda a: a.flat.__setitem__(slice(2, 9), a[0, :2].copy()),
        lambda a: a.T.flat.__setitem__([0, 1, 5], [1.0, 2.0, a[0, 0]]),
        lambda a: setattr(a, "flat", [1.0, a[0, 0], 3.0]),
        lambda a: setattr(a, "shape", (4, 3)),
        lambda a: setattr(a, "shape", -1),
        lambda a: setattr(a, "shape", (2, -1)),
        lambda a: a[1].__setattr__("shape", (2, 2)),
    ],
)
def test_an_attribute_that_is_written_to(x: np.ndarray, write: Any) -> None:
    def loss(a: Any) -> Any:
        b = a * 1.0
        write(b)
        return np.sum(b[..., :1] ** 3) + np.sum(b) + b.ndim

    traced(loss, x)


def test_a_shape_that_would_need_a_copy_is_refused_as_numpy_does(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        view = a.T
        with pytest.raises(AttributeError, match="in-place modification"):
            view.shape = (12,)
        return view.sum()

    trace(loss, ParamTree.from_user(x))


def test_only_whole_numbers_are_keys(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        for key in (a, a[0, 0], a[0]):
            with pytest.raises(TypeError, match="unhashable"):
                hash(key)
        return a.sum()

    trace(loss, ParamTree.from_user(x))


def test_a_key_is_a_branch() -> None:
    def loss(a: Any) -> Any:
        return {0: 1.0, 1: -4.0}[np.argmax(a)] * a.sum()

    graph = trace(loss, ParamTree.from_user(np.array([0.3, 0.2])))
    assert graph.guards[0].action == "a key"
