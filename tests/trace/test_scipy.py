"""SciPy's special functions and convolutions, where SciPy is present."""

from itertools import product
from typing import Any

import numpy as np
import pytest

from fastcheck import check
from fastcheck.engines.tracing import escaped_number
from fastcheck.params import ParamTree
from fastcheck.trace.primitives import CONTRACT

from .conftest import refusal, traced

scipy = pytest.importorskip("scipy")
from scipy import ndimage, signal, special  # noqa: E402
from scipy.signal import convolve  # noqa: E402

SHAPES = [
    ((7,), (3,)),
    ((6,), (4,)),
    ((3,), (6,)),
    ((4, 5), (3, 2)),
    ((4, 5), (2, 3)),
    ((2, 3), (4, 5)),
    ((3, 4, 3), (2, 3, 3)),
]
MODES = ("full", "same", "valid")


def pair(shapes: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {"a": rng.normal(size=shapes[0]), "k": rng.normal(size=shapes[1])}


def replays(call: Any, params: dict[str, np.ndarray]) -> None:
    """The traced result is SciPy's, element by element, and no number leaves the trace."""

    def loss(p: Any) -> Any:
        result = call(p["a"], p["k"])
        return np.sum(result * np.cos(np.arange(result.size)).reshape(result.shape))

    graph = traced(loss, params, relative=1e-11)
    assert all(escaped_number(graph, name) is None for name in params)
    assert any(node.primitive is CONTRACT for node in graph)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", ["convolve", "correlate", "fftconvolve", "oaconvolve"])
def test_convolutions_of_signals(name: str, shapes: Any, mode: str) -> None:
    function = getattr(signal, name)
    with_modes = [lambda a, k: getattr(signal, name)(a, k, mode)]
    if name in ("convolve", "correlate"):
        with_modes += [
            lambda a, k, m=method: getattr(signal, name)(a, k, mode=mode, method=m)
            for method in ("direct", "fft", "auto")
        ]
    for call in with_modes:
        replays(call, pair(shapes))
    assert getattr(signal, name) is function


@pytest.mark.parametrize("boundary", ["fill", "wrap", "symm"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shapes", [pair for pair in SHAPES if len(pair[0]) == 2])
@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_convolutions_of_images(name: str, shapes: Any, mode: str, boundary: str) -> None:
    fill = {"fillvalue": 1.5} if boundary == "fill" else {}
    replays(lambda a, k: getattr(signal, name)(a, k, mode, boundary, **fill), pair(shapes))


@pytest.mark.parametrize("mode", ["reflect", "constant", "nearest", "mirror", "wrap"])
@pytest.mark.parametrize("shapes", SHAPES)
def test_convolutions_of_ndimage(shapes: Any, mode: str) -> None:
    replays(lambda a, k: ndimage.convolve(a, k, mode=mode, cval=0.5), pair(shapes))
    replays(lambda a, k: ndimage.correlate(a, k, None, mode, 0.5), pair(shapes))


@pytest.mark.parametrize("which", ["a", "k"])
def test_plain_data_may_be_on_either_side(which: str) -> None:
    params = pair(((5, 6), (3, 3)))
    data = params.pop("k" if which == "a" else "a")

    def loss(p: Any) -> Any:
        return np.sum(convolve(*(p["a"], data) if which == "a" else (data, p["k"]), "valid") ** 2)

    traced(loss, params)


def test_a_network_of_convolutions_is_checked_and_its_bug_is_found() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=(4, 6, 6)), rng.normal(size=4)
    params = {"K": rng.normal(size=(3, 3)), "w": rng.normal(size=16)}

    def loss(p: Any) -> Any:
        hidden = [np.tanh(signal.correlate2d(image, p["K"], "valid")) for image in images]
        return 0.5 * np.mean(
            [(h.ravel() @ p["w"] - y) ** 2 for h, y in zip(hidden, labels, strict=True)]
        )

    grads = {name: np.zeros_like(value) for name, value in params.items()}
    for image, label in zip(images, labels, strict=True):
        hidden = np.tanh(signal.correlate2d(image, params["K"], "valid"))
        error = (hidden.ravel() @ params["w"] - label) / 4
        grads["w"] += error * hidden.ravel()
        back = (error * params["w"]).reshape(4, 4) * (1 - hidden**2)
        grads["K"] += signal.correlate2d(image, back, "valid")
    report = check(loss, params, grads)
    assert report.passed, report
    assert {tensor.engine for tensor in report.tensors.values()} <= {"replay", "fused"}
    flipped = {**grads, "K": grads["K"][::-1]}
    assert not check(loss, params, flipped).passed


def test_windows_of_too_many_elements_are_refused() -> None:
    params = {"a": np.ones((700, 700)), "k": np.ones((90, 90))}
    message = refusal(lambda p: signal.fftconvolve(p["a"], p["k"]).sum(), params)
    assert "a convolution with windows of so many elements" in message


@pytest.mark.parametrize(
    "call",
    [
        lambda a, k: signal.fftconvolve(a, k, axes=0),
        lambda a, k: ndimage.convolve(a, k, origin=1),
    ],
)
def test_forms_that_have_no_rule_are_refused(call: Any) -> None:
    assert "cannot be traced" in refusal(lambda p: call(p["a"], p["k"]).sum(), pair(SHAPES[3]))


# -- scipy.special ---------------------------------------------------------------------------------

OF_ONE = """
    expit log_expit erf erfc entr logit exp2 exp10 expm1 log1p cbrt gammaln digamma ndtr log_ndtr
    erfinv i0e j0 sinc softplus
"""
OF_TWO = "xlogy xlog1py rel_entr kl_div huber pseudo_huber betaln"


@pytest.fixture
def inside() -> np.ndarray:
    """Numbers between 0 and 1, where all of these are smooth."""
    return np.random.default_rng(3).uniform(0.1, 0.9, (2, 3))


@pytest.mark.parametrize("name", OF_ONE.split())
def test_functions_of_one_argument(name: str, inside: np.ndarray) -> None:
    if not hasattr(special, name):
        pytest.skip(f"this SciPy has no {name}")
    traced(lambda a: np.sum(getattr(special, name)(a) * (1 + a)), inside, relative=1e-11)


@pytest.mark.parametrize("name", OF_TWO.split())
def test_functions_of_two_arguments(name: str, inside: np.ndarray) -> None:
    function = getattr(special, name)
    traced(lambda a: np.sum(function(a, a[::-1] ** 2) + function(0.5, a)), inside, relative=1e-11)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["entr", "xlog1py", "rel_entr", "kl_div", "xlogy"])
def test_the_edges_are_scipy_s(name: str) -> None:
    function = getattr(special, name)
    edges = np.array([-1.0, 0.0, 0.5, 2.0])
    grid = list(product(edges, edges)) if name != "entr" else [(edge,) for edge in edges]
    for point in grid:
        wanted = function(*point)
        seen: list[Any] = []

        def loss(p: Any, seen: Any = seen) -> Any:
            seen.append(function(*[p[f"x{k}"] for k in range(len(p))]))
            return p["x0"].sum()

        from fastcheck.trace.tracer import trace

        trace(loss, ParamTree.from_user({f"x{k}": np.array([v]) for k, v in enumerate(point)}))
        np.testing.assert_array_equal(seen[0]._store._node.value, [wanted], str(point))


@pytest.mark.parametrize(
    "loss",
    [
        lambda a: special.logsumexp(a, b=[0.2, 0.0, 2.0]),
        lambda a: np.sum(special.logsumexp(a, axis=1, b=a[::-1] ** 2, keepdims=True)),
        lambda a: np.sum(special.logsumexp(a, axis=0, b=2.0) ** 2),
        lambda a: np.sum(special.softmax(a) * special.log_softmax(a, 1)),
    ],
)
def test_the_softmax_family(loss: Any, inside: np.ndarray) -> None:
    traced(loss, inside)
