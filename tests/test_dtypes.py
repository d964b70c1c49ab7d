"""Parameters and arithmetic of every floating-point type: verdicts hold in all of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fastcheck
from fastcheck.errors import InputTypeError
from fastcheck.params import ParamTree
from fastcheck.report import Verdict
from fastcheck.trace.arithmetic import coarsest
from fastcheck.trace.tracer import trace
from fastcheck.verdict.tolerances import coarsened, tolerance_for

F16, F32, F64 = np.float16, np.float32, np.float64
TREES = {
    "float64": (F64,) * 4,
    "float32": (F32,) * 4,
    "float16": (F16,) * 4,
    "float32 and float64": (F32, F64, F32, F64),
    "float64 and float32": (F64, F32, F64, F32),
    "all three": (F16, F32, F64, F16),
}
SINGLE = (F32, F64)


def network(dtypes: Any, cast: Any = None, seed: int = 0, returned: Any = None) -> SimpleNamespace:
    """A softmax network whose forward and backward pass both compute in the type `cast`."""
    rng = np.random.default_rng(seed)
    count, sizes = 24, (30, 20, 4)
    X = rng.normal(size=(count, sizes[0]))
    Y = np.eye(sizes[2])[rng.integers(0, sizes[2], count)]
    shapes = {"W1": sizes[:2], "b1": sizes[1:2], "W2": sizes[1:], "b2": sizes[2:]}
    params = {
        name: (0.5 * rng.normal(size=shape)).astype(dtype)
        for (name, shape), dtype in zip(shapes.items(), dtypes, strict=True)
    }

    def to(array: Any) -> Any:
        return array if cast is None else array.astype(cast)

    def forward(p: Any) -> Any:
        H = np.tanh(to(X) @ to(p["W1"]) + to(p["b1"]))
        Z = H @ to(p["W2"]) + to(p["b2"])
        E = np.exp(Z - Z.max(axis=1, keepdims=True))
        return H, E / E.sum(axis=1, keepdims=True)

    def loss(p: Any) -> Any:
        value = -np.mean(np.sum(to(Y) * np.log(forward(p)[1]), axis=1))
        return value if returned is None else value.astype(returned)

    def grads(p: Any) -> Any:
        H, P = forward(p)
        dZ = (P - to(Y)) / P.dtype.type(count)
        dA = dZ @ to(p["W2"]).T * (1 - H**2)
        return {"W1": to(X).T @ dA, "b1": dA.sum(axis=0), "W2": H.T @ dZ, "b2": dZ.sum(axis=0)}

    return SimpleNamespace(loss=loss, params=params, grads=grads(params), shapes=shapes)


def coarse(dtypes: Any) -> Any:
    return min(dtypes, key=lambda dtype: np.dtype(dtype).itemsize)


# -- parameters ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["auto", "loop", "replay", "fused"])
@pytest.mark.parametrize("dtypes", TREES.values(), ids=TREES.keys())
class TestParameters:
    def test_a_right_gradient_passes_as_it_is_and_rounded_to_the_parameters(
        self, dtypes: Any, engine: str
    ) -> None:
        for seed in range(2):
            net = network(dtypes, seed=seed)
            rounded = {n: g.astype(net.params[n].dtype) for n, g in net.grads.items()}
            for found in (net.grads, rounded):
                report = fastcheck.check(net.loss, net.params, found, engine=engine)
                assert report.passed, report

    def test_a_wrong_gradient_fails(self, dtypes: Any, engine: str) -> None:
        # float16 keeps three digits: no right gradient in it is known to 1%.
        factor = 1.25 if coarse(dtypes) is F16 else 1.01
        net = network(dtypes)
        for name in net.shapes:
            wrong = {**net.grads, name: factor * net.grads[name]}
            assert name in fastcheck.check(net.loss, net.params, wrong, engine=engine).failed

    def test_the_loss_is_given_float64_and_the_report_says_so(
        self, dtypes: Any, engine: str
    ) -> None:
        net = network(dtypes)

        def picky(p: Any) -> Any:
            assert all(array.dtype == F64 for array in p.values())
            return net.loss(p)

        report = fastcheck.check(picky, net.params, net.grads, engine=engine)
        assert report.passed, report
        names = sorted({np.dtype(dtype).name for dtype in dtypes} - {"float64"})
        said = f"The parameters are {' and '.join(names)}; the numerical gradient was computed in"
        assert any(note.startswith(said) for note in report.notes) == bool(names)
        assert [t.dtype for t in report.tensors.values()] == [np.dtype(d).name for d in dtypes]


@pytest.mark.parametrize("dtypes", TREES.values(), ids=TREES.keys())
def test_the_numerical_gradient_is_that_of_the_same_values_in_float64(dtypes: Any) -> None:
    net = network(dtypes)
    widened = {name: array.astype(F64) for name, array in net.params.items()}
    coarse_ones = fastcheck.numerical_gradient(net.loss, net.params)
    fine_ones = fastcheck.numerical_gradient(net.loss, widened)
    for name in net.shapes:
        assert coarse_ones[name].dtype == F64
        np.testing.assert_allclose(coarse_ones[name], fine_ones[name], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8, bool])
def test_integers_among_the_parameters_are_named(dtype: Any) -> None:
    net = network(TREES["float32 and float64"])
    params = {**net.params, "b1": np.ones(20, dtype)}
    said = rf"(?s)not float arrays:\n  b1: {np.dtype(dtype).name} array .*; use .astype\(float\)"
    with pytest.raises(InputTypeError, match=said):
        fastcheck.check(net.loss, params, net.grads)


# -- arithmetic ------------------------------------------------------------------------------------

CASTS = [(F64, F32), (F32, F32), (F64, F16), (F32, F16), (F16, F16), (F16, F32)]


@pytest.mark.parametrize("engine", ["auto", "loop", "replay"])
@pytest.mark.parametrize(("dtype", "cast"), CASTS)
class TestALossThatCastsInside:
    def test_a_right_gradient_never_fails(self, dtype: Any, cast: Any, engine: str) -> None:
        for seed in range(4):
            net = network((dtype,) * 4, cast, seed)
            assert net.grads["W1"].dtype == cast
            report = fastcheck.check(net.loss, net.params, net.grads, engine=engine)
            assert report.verdict is not Verdict.FAIL, report
            # Exact differences resolve what calls of a loss in float16 cannot.
            assert report.passed or engine == "loop", report

    def test_a_wrong_gradient_does(self, dtype: Any, cast: Any, engine: str) -> None:
        half = F16 in (dtype, cast)
        net = network((dtype,) * 4, cast)
        for name in net.shapes:
            wrong = {**net.grads, name: (1.25 if half else 1.02) * net.grads[name].astype(F64)}
            report = fastcheck.check(net.loss, net.params, wrong, engine=engine)
            if half and engine == "loop":
                # Calls of a loss in float16 resolve little, but pass nothing wrong either.
                assert not report.passed
            else:
                assert name in report.failed


@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_what_rounding_leaves_of_a_derivative_that_vanishes(engine: str) -> None:
    rng = np.random.default_rng(0)
    X, R = rng.normal(size=(32, 6)).astype(F32), rng.normal(size=(32, 5)).astype(F32)
    params = {"W": rng.normal(size=(6, 5)), "b": rng.normal(size=5)}

    def normalised(p: Any) -> Any:
        Z = X @ p["W"].astype(F32) + p["b"].astype(F32)
        centred = Z - Z.mean(axis=0)
        deviation = np.sqrt((centred**2).mean(axis=0))
        return centred / deviation, deviation

    def loss(p: Any) -> Any:
        return np.mean(R * normalised(p)[0] ** 3)

    H, deviation = normalised(params)
    dH = 3 * R * H**2 / F32(R.size)
    dZ = (dH - dH.mean(axis=0) - H * (dH * H).mean(axis=0)) / deviation
    grads = {"W": X.T @ dZ, "b": dZ.sum(axis=0)}
    assert grads["b"].dtype == F32
    assert grads["b"].any()  # what rounding left of zero
    report = fastcheck.check(loss, params, grads, engine=engine)
    assert report.verdict is not Verdict.FAIL, report
    wrong = {**grads, "b": grads["b"] + 0.01 * np.abs(grads["W"]).max()}
    assert not fastcheck.check(loss, params, wrong, engine=engine).passed


def test_the_report_says_in_which_type_the_loss_computes() -> None:
    net = network(TREES["float64"], F32)
    report = fastcheck.check(net.loss, net.params, net.grads)
    (note,) = [note for note in report.notes if "on the way" in note]
    assert note.startswith("`loss` computes in float32 on the way (")
    assert "test_dtypes.py:" in note
    fine = network(TREES["float64"])
    assert not fastcheck.check(fine.loss, fine.params, fine.grads).notes


@pytest.mark.parametrize("engine", ["auto", "loop", "replay"])
@pytest.mark.parametrize("returned", [F32, F16])
def test_a_loss_rounded_at_its_end(returned: Any, engine: str) -> None:
    net = network(TREES["float64"], returned=returned)
    report = fastcheck.check(net.loss, net.params, net.grads, engine=engine)
    assert report.verdict is not Verdict.FAIL
    if engine != "loop":
        # The gradient is one of float64 all the same, and held to that.
        assert report.passed, report
        wrong = {**net.grads, "W2": net.grads["W2"] * (1 + 1e-5)}
        assert fastcheck.check(net.loss, net.params, wrong, engine=engine).failed == ("W2",)


def test_a_float32_loss_that_cannot_be_traced() -> None:
    net = network(TREES["float32"], F32)

    def opaque(p: Any) -> Any:
        return net.loss(
            {name: np.frombuffer(a.tobytes()).reshape(a.shape) for name, a in p.items()}
        )

    report = fastcheck.check(opaque, net.params, net.grads)
    assert {tensor.engine for tensor in report.tensors.values()} == {"loop"}
    assert report.verdict is not Verdict.FAIL
    wrong = {**net.grads, "W1": 1.5 * net.grads["W1"]}
    assert fastcheck.check(opaque, net.params, wrong).failed == ("W1",)


@pytest.mark.parametrize("mode", ["full", "sample", "directions"])
@pytest.mark.parametrize("dtype", SINGLE)
def test_a_monitor_of_a_loss_that_casts_inside(dtype: Any, mode: str) -> None:
    net = network((dtype,) * 4, F32)
    # Directions call the loss, which resolves little in float32, and the records say so.
    unseen = {"inconclusive"} if mode == "directions" else set()
    for factor, wanted in ((1.0, {"pass"} | unseen), (1.25, {"fail"} | unseen)):
        monitor = fastcheck.Monitor(net.loss, every=1, mode=mode, on_fail="record", sample=704)
        for _ in range(2):
            with monitor.step(net.params, {**net.grads, "W1": factor * net.grads["W1"]}):
                pass
        assert {record.verdict for record in monitor.history} <= wanted


# -- where the type comes from ---------------------------------------------------------------------


def coarsest_of(loss: Any, params: Any) -> str | None:
    node = coarsest(trace(loss, ParamTree.from_user(params)))
    return None if node is None else node.value.dtype.name


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (lambda x: np.sum(x**2), None),
        (lambda x: np.sum(x.astype(F32) ** 2), "float32"),
        (lambda x: np.sum(x.astype(F32).astype(F16) * x), "float16"),
        (lambda x: np.sum(x.astype(F32).astype(F64) ** 2), "float32"),
        (lambda x: np.sum(x**2).astype(F32), None),
        (lambda x: np.sum(x**2).astype(F32).astype(F64), None),
        (lambda x: np.sum(x * (x > 0).astype(F32)), None),
        (lambda x: np.sum(x * np.ones(3, F32)), None),
        (lambda x: 3.0, None),
    ],
)
def test_the_coarsest_type_that_derivatives_go_through(loss: Any, expected: Any) -> None:
    assert coarsest_of(loss, np.array([1.0, -2.0, 3.0])) == expected


def test_a_coarser_tolerance_replaces_a_finer_one_and_never_the_reverse() -> None:
    fine, single = tolerance_for([F64]), tolerance_for([F32])
    found = coarsened(fine, np.dtype(F32))
    assert replace(found, saturation=single.saturation) == single
    assert found.saturation * found.unit == fine.saturation * fine.unit
    assert coarsened(single, np.dtype(F64)) == single
    assert coarsened(single, np.dtype(F32)) == single


def test_a_tolerance_of_the_users_own_stays() -> None:
    own = tolerance_for([F64], 1e-8)
    found = coarsened(own, np.dtype(F32))
    assert (found.rtol, found.gamma, found.rho_max) == (own.rtol, own.gamma, own.rho_max)
    assert found.unit == tolerance_for([F32]).unit


@pytest.mark.parametrize(("dtype", "scale"), [(np.float32, 2.0**-141), (np.float16, 2.0**-21)])
def test_what_underflows_is_not_called_wrong(dtype: Any, scale: float) -> None:
    """Few bits of a derivative are left, and fewer of the smallest."""

    def loss(w: Any) -> Any:
        return np.sum(np.tanh(w) * scale * weights)

    weights = np.linspace(0.1, 1.0, 8) * 2.0 ** -np.arange(8.0)
    w = np.linspace(-1, 1, 8).astype(dtype)
    exact = (1 - np.tanh(w.astype(float)) ** 2) * scale * weights
    report = fastcheck.check(loss, w, exact.astype(dtype))
    assert report.verdict is not fastcheck.Verdict.FAIL, str(report)
    assert fastcheck.check(loss, w, (1000 * exact).astype(dtype)).failed
