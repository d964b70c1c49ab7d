"""Whole checks on a CUDA device: verdicts, memory, interruption, CuPy parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.problems import Problem, bugs, mlp

from .conftest import Cuda
from .networks import NETWORKS

SIZES, BATCH = (12, 6, 6), 9


def problem(sizes: tuple[int, ...] = SIZES, batch: int = BATCH, seed: int = 0) -> Problem:
    return mlp.mlp_problem(sizes, batch, seed=seed)


def check(one: Problem, **options: Any) -> fastcheck.Report:
    return fastcheck.check(one.loss, one.params, one.grads, **{"device": "gpu", **options})


def engines(report: fastcheck.Report) -> set[str]:
    return {tensor.engine_and_device for tensor in report.tensors.values()}


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_a_right_gradient_passes(engine: str, precision: str) -> None:
    for one in (problem(), problem((784, 10, 10), 16)):
        report = check(one, engine=engine, precision=precision)
        assert report.passed, str(report)
        assert engines(report) == {f"{engine} on gpu:0"}
        largest = 1e-9 if precision == "float64" else 1e-3
        assert max(tensor.resolution for tensor in report.tensors.values()) < largest


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("bug", bugs.BUGS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_a_planted_bug_fails_where_it_was_planted(bug: str, precision: str) -> None:
    right = problem()
    batch = right.loss.keywords  # type: ignore[attr-defined]  # a partial of the network's loss
    X, Y = batch["X"], batch["Y"]
    report = check(bugs.spoilt_problem(right, X, Y, bug), precision=precision)
    assert report.verdict is fastcheck.Verdict.FAIL
    planted = bugs.BUGS[bug].breaks(bugs.Context(right.params, X, Y))
    assert set(report.failed) == set(planted)
    assert engines(report) == {"fused on gpu:0"}


def test_a_second_check_compiles_nothing(cuda: Cuda) -> None:
    assert check(problem()).passed
    first = len(cuda.modules)
    assert first > 0
    assert check(problem()).passed
    # Other numbers, and other sizes of what loops run over, take the same kernels.
    assert check(problem((30, 6, 6), 20, seed=1)).passed
    assert len(cuda.modules) == first


@pytest.mark.usefixtures("cuda")
def test_explain_names_the_device() -> None:
    one = problem()
    plan = fastcheck.explain(one.loss, one.params, device="gpu")
    assert {(tensor.engine, tensor.device) for tensor in plan.tensors} == {("fused", "gpu:0")}


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("engine", ["fused", "replay"])
def test_little_memory_is_enough(engine: str) -> None:
    report = check(problem((20, 10, 10), 64), engine=engine, memory="1MB")
    assert report.passed, str(report)
    assert engines(report) == {f"{engine} on gpu:0"}


@pytest.mark.usefixtures("cuda")
def test_too_little_memory_for_one_copy_says_so() -> None:
    with pytest.raises(fastcheck.InputError, match="`memory` is 1,000 bytes, but"):
        check(problem((20, 10, 10), 64), engine="replay", memory=1000)


def test_two_devices_reach_the_same_verdicts(cuda: Cuda) -> None:
    cuda.need(2)
    right = problem()
    report = check(right, device="gpu:0,1")
    assert report.passed, str(report)
    assert engines(report) == {"fused on gpu:0,1"}
    exact = right.grads(right.params)  # type: ignore[operator]  # a function of the parameters
    wrong = Problem(right.loss, right.params, {**exact, "W2": 1.01 * exact["W2"]})
    assert check(wrong, device="gpu:0,1").failed == ("W2",)


@pytest.mark.parametrize("device", ["gpu:0", "gpu:0,1"])
@pytest.mark.parametrize("launch", [1, 4, 7])
def test_an_interrupted_check_leaves_everything_as_it_was(
    launch: int, device: str, cuda: Cuda
) -> None:
    if cuda.is_real:
        pytest.skip("a launch on a real device does not raise")
    one, seen = problem(), []

    def interrupt() -> None:
        seen.append(1)
        if len(seen) == launch:
            raise KeyboardInterrupt

    cuda.launching = interrupt
    before = {name: value.copy() for name, value in one.params.items()}
    with pytest.raises(KeyboardInterrupt):
        check(one, device=device)
    for name, value in one.params.items():
        np.testing.assert_array_equal(value, before[name])
    assert cuda.machine.current == 0
    cuda.launching = lambda: None
    assert check(one, device=device).passed


def backward(xp: Any, p: dict[str, Any], X: Any, Y: Any) -> dict[str, Any]:
    """The gradient of `NETWORKS["ReLU and softmax"]`."""
    Z = X @ p["W1"] + p["b1"]
    A = Z * (Z > 0)
    e = xp.exp(A @ p["W2"] + p["b2"])
    d = (e / xp.sum(e, axis=1, keepdims=True) - Y) / len(X)
    dZ = (d @ p["W2"].T) * (Z > 0)
    return {"W1": X.T @ dZ, "b1": dZ.sum(axis=0), "W2": A.T @ d, "b2": d.sum(axis=0)}


def on_device(cuda: Cuda) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """A loss on CuPy arrays, its parameters, and its gradient, all on the device."""
    loss, params = NETWORKS["ReLU and softmax"].make(cuda.xp)
    cells = dict(zip(loss.__code__.co_freevars, loss.__closure__, strict=True))
    X, Y = cells["X"].cell_contents, cells["Y"].cell_contents
    return loss, params, backward(cuda.xp, params, X, Y)


@pytest.mark.parametrize("device", ["gpu", "cpu"])
def test_parameters_and_data_in_cupy(device: str, cuda: Cuda) -> None:
    loss, params, grads = on_device(cuda)
    before = {name: value.get() for name, value in params.items()}
    report = fastcheck.check(loss, params, grads, device=device)
    assert report.passed, str(report)
    place = "gpu:0" if device == "gpu" else "cpu"
    assert {tensor.device for tensor in report.tensors.values()} == {place}, str(report)
    for name, value in params.items():
        np.testing.assert_array_equal(value.get(), before[name])


def test_a_wrong_gradient_in_cupy_fails(cuda: Cuda) -> None:
    loss, params, grads = on_device(cuda)
    wrong = grads | {"b1": grads["b1"] * 1.001}
    assert fastcheck.check(loss, params, wrong, device="gpu").failed == ("b1",)


def test_the_numerical_gradient_of_cupy_parameters_is_in_cupy(cuda: Cuda) -> None:
    loss, params, grads = on_device(cuda)
    found = fastcheck.numerical_gradient(loss, params, device="gpu")
    for name, value in grads.items():
        assert isinstance(found[name], cuda.xp.ndarray)
        np.testing.assert_allclose(found[name].get(), value.get(), rtol=0, atol=1e-10)
