# ruff: noqa: E501
"""Code written for the array-API standard traces: `xp = x.__array_namespace__()`."""

import importlib
import re
from typing import Any

import numpy as np
import pytest

from fastcheck import check
from fastcheck.engines.tracing import escaped_number

from .conftest import traced

if not hasattr(np.ndarray, "__array_namespace__"):
    pytest.skip("NumPy 1 has no array-API namespace", allow_module_level=True)

RNG = np.random.default_rng(8)
X, T = RNG.normal(size=(6, 4)), np.array([0, 2, 1, 1, 0, 2])
PARAMS = {"W": RNG.normal(size=(4, 5)), "b": RNG.normal(size=5), "V": RNG.normal(size=(5, 3))}


def own(*arrays: Any) -> Any:
    """The namespace as libraries find it, by the array's own method."""
    (space,) = {id(a.__array_namespace__()): a.__array_namespace__() for a in arrays}.values()
    return space


def network(p: Any, xp: Any, x: Any) -> Any:
    """A classifier in the words of the standard only."""
    hidden = xp.matmul(x, p["W"]) + xp.expand_dims(p["b"], axis=0)
    active = xp.where(hidden > 0, hidden, xp.multiply(hidden, 0.1))
    active = xp.concat([active[:, :2], xp.tanh(active[:, 2:])], axis=1)
    scores = active @ p["V"]
    scores = scores - xp.max(scores, axis=-1, keepdims=True)
    picked = xp.zeros(scores.shape[0], dtype=xp.float64)
    logs = scores - xp.log(xp.sum(xp.exp(scores), axis=-1, keepdims=True))
    for i in range(scores.shape[0]):
        picked[i] = logs[i, int(T[i])]
    weights = xp.asarray([1.0] * scores.shape[0])
    penalty = xp.linalg.vector_norm(xp.reshape(p["W"], (-1,))) + xp.linalg.matrix_norm(p["V"])
    return -xp.mean(picked * weights) + 0.01 * xp.pow(penalty, 2)


def gradient(p: Any) -> Any:
    z = X @ p["W"] + p["b"]
    slope = np.where(z > 0, 1.0, 0.1)
    a = z * slope
    a[:, 2:] = np.tanh(a[:, 2:])
    slope[:, 2:] *= 1 - a[:, 2:] ** 2
    scores = a @ p["V"]
    probs = np.exp(scores - scores.max(1, keepdims=True))
    probs /= probs.sum(1, keepdims=True)
    probs[np.arange(6), T] -= 1
    back = (probs / 6) @ p["V"].T * slope
    w, v = np.linalg.norm(p["W"]), np.linalg.norm(p["V"])
    pull = 0.02 * (w + v)
    return {
        "W": X.T @ back + pull * p["W"] / w,
        "b": back.sum(0),
        "V": a.T @ (probs / 6) + pull * p["V"] / v,
    }


@pytest.mark.parametrize("by", ["parameter", "data"])
def test_a_network_in_the_standard_s_words(by: str) -> None:
    def loss(p: Any) -> Any:
        return network(p, own(p["W"] if by == "parameter" else X), X)

    graph = traced(loss, PARAMS)
    assert all(escaped_number(graph, name) is None for name in PARAMS)
    report = check(loss, PARAMS, gradient(PARAMS))
    assert report.passed, report
    wrong = {**gradient(PARAMS), "b": -gradient(PARAMS)["b"]}
    assert not check(loss, PARAMS, wrong).passed


def packages() -> list[Any]:
    """array_api_compat, or a copy of it that SciPy brings along."""
    names = (
        "array_api_compat",
        "scipy._external.array_api_compat",
        "scipy._lib.array_api_compat",
    )
    found = []
    for name in names:
        try:
            found.append(importlib.import_module(name))
        except ImportError:
            continue
    return found


@pytest.mark.parametrize("package", packages(), ids=lambda package: package.__name__)
@pytest.mark.parametrize(
    "arrays", [lambda p: [p["W"]], lambda p: [X], lambda p: [X, p["W"]], lambda p: [p["b"], X]]
)
def test_a_network_through_array_api_compat(package: Any, arrays: Any) -> None:
    array_namespace = package.array_namespace
    original = array_namespace(X)

    def loss(p: Any) -> Any:
        return network(p, array_namespace(*arrays(p)), X)

    graph = traced(loss, PARAMS)
    assert all(escaped_number(graph, name) is None for name in PARAMS)
    traced(lambda p: network(p, package.array_namespace(*arrays(p)), X), PARAMS)
    assert array_namespace(X) is original
    assert package.array_namespace is array_namespace
    assert not check(loss, PARAMS, {**gradient(PARAMS), "b": -gradient(PARAMS)["b"]}).passed


def test_what_the_namespace_makes_takes_traced_values() -> None:
    def loss(p: Any) -> Any:
        xp = p["b"].__array_namespace__(api_version="2023.12")
        made = xp.empty((2, 5), dtype=p["b"].dtype)
        made[0, :] = p["b"]
        made[1, :] = xp.flip(p["b"])
        grid = xp.linspace(0.0, 1.0, 5)
        return xp.sum(made**2 * grid)

    traced(loss, PARAMS)


# The names of the 2023.12 standard that code writes; x is (3, 4), s is (3, 3) and v is (4,).
CALLS = """
abs(x) | acos(x / 9) | acosh(x ** 2 + 1.5) | add(x, v) | asin(x / 9) | asinh(x) | atan(x) | atan2(x, v)
atanh(x / 9) | ceil(x) | clip(x, 0.1, 0.5) | conj(x) | copysign(x, v) | cos(x) | cosh(x) | divide(x, v)
equal(x, x) | exp(x) | expm1(x) | floor(x) | floor_divide(x, 0.3) | greater(x, v) | hypot(x, v)
isfinite(x) | isinf(x) | isnan(x) | less_equal(x, v) | log(x ** 2) | log1p(x ** 2) | log2(x ** 2)
log10(x ** 2) | logaddexp(x, v) | logical_and(x > 0, v > 0) | maximum(x, v) | minimum(x, v)
multiply(x, v) | negative(x) | not_equal(x, v) | positive(x) | pow(x, 3) | real(x) | remainder(x, 0.3)
round(x) | sign(x) | signbit(x) | sin(x) | sinh(x) | square(x) | sqrt(x ** 2 + 1) | subtract(x, v)
tan(x) | tanh(x) | trunc(x) | matmul(x, v) | matrix_transpose(x) | tensordot(x, v, axes=1)
vecdot(x, x) | broadcast_arrays(x, v) | broadcast_to(v, (3, 4)) | concat([x, x], axis=1)
expand_dims(x, axis=1) | flip(x, axis=0) | moveaxis(x, 0, 1) | permute_dims(x, (1, 0)) | repeat(x, 2)
reshape(x, (4, 3)) | roll(x, 1, axis=0) | squeeze(x[None], axis=0) | stack([x, x]) | tile(x, (2, 1))
unstack(x) | argmax(x, axis=1) | argmin(x) | nonzero(x > 0) | searchsorted(sort(v), x) | where(x > 0, x, v)
argsort(x) | sort(x, axis=0) | cumulative_sum(x, axis=1) | max(x, axis=0) | mean(x) | min(x) | prod(x, axis=1)
std(x, correction=1) | sum(x, axis=1) | var(x, axis=0, correction=1) | all(x > 0) | any(x > 0, axis=1)
take(x, asarray([0, 1]), axis=1) | astype(x, float32) * 1.0 | tril(x) | triu(x) | meshgrid(v, v)
zeros_like(x) + x | ones_like(x) * x | full_like(x, 2.0) | linalg.det(s) | linalg.inv(s) | linalg.solve(s, x)
linalg.cholesky(s @ s.T + 3 * eye(3)) | linalg.matrix_norm(x) | linalg.vector_norm(x, axis=1) | linalg.outer(v, v)
linalg.matrix_power(s, 2) | linalg.trace(s) | linalg.diagonal(s) | linalg.cross(s, s[::-1, :]) | linalg.vecdot(x, v)
linalg.slogdet(s).logabsdet | linalg.svdvals(x) | linalg.eigh(s + s.T).eigenvalues | linalg.pinv(x) | linalg.tensordot(x, v, axes=1)
take_along_axis(x, argsort(x, axis=1), axis=1) | diff(x, axis=0) | count_nonzero(x > 0) | isdtype(x.dtype, 'real floating')
finfo(x.dtype).eps | result_type(x, v).itemsize | can_cast(x.dtype, float32) | arange(3.0) * s | reciprocal(x + 9)
"""


@pytest.mark.parametrize(
    "call", [c.strip() for line in CALLS.split("\n") for c in line.split("|") if c.strip()]
)
def test_a_function_of_the_standard(call: str) -> None:
    code = re.sub(r"(?<![\w.])(?=[a-z_0-9.]+\()|(?<![\w.])(?=float32)", "xp.", call)
    rng = np.random.default_rng(4)
    shapes = {"x": (3, 4), "s": (3, 3), "v": (4,)}
    params = {name: rng.uniform(0.1, 1.4, shape) for name, shape in shapes.items()}

    def loss(p: Any) -> Any:
        xp = own(p["x"])
        if not hasattr(xp, code.split("xp.")[1].split("(")[0].split(".")[0]):
            pytest.skip("a later NumPy has it")
        result = eval(code, {"xp": xp, **p})
        parts = result if isinstance(result, (tuple, list)) else [result]
        return xp.sum(p["x"]) + sum(xp.sum(xp.cos(part * 1.0)) for part in parts)

    traced(loss, params, relative=1e-6 if "float32" in call else 1e-12)
