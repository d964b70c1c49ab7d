"""What cannot be traced is refused: which function, on which line, and what to write instead."""

import copy
import math
import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import scipy.special
from scipy import special
from scipy.special import logsumexp

from fastcheck.params import ParamTree
from fastcheck.trace.tape import Untraceable
from fastcheck.trace.tracer import trace

from .conftest import refusal, traced


def here(loss: Any, offset: int = 0) -> str:
    return f"{__file__}:{loss.__code__.co_firstlineno + offset}"


def test_a_refusal_names_the_function_the_line_and_the_remedy(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        b = a * 2
        return np.roots(b[0])

    assert refusal(loss, x) == (
        "numpy.roots of an array that depends on the parameters cannot be traced "
        f"({here(loss, 2)}); its result is complex in general; write the formula of the root that "
        "you want"
    )


def test_writing_into_plain_data_is_refused(x: np.ndarray) -> None:
    hidden = MappingProxyType({"data": np.zeros(3)})

    def loss(a: Any) -> Any:
        plain = hidden["data"]
        plain += a[:, 0]
        return plain.sum()

    message = refusal(loss, x)
    assert "an ordinary array is written in place with a traced value" in message
    assert here(loss, 2) in message
    assert "np.zeros(...)" in message


def test_storing_into_plain_data_is_refused(x: np.ndarray) -> None:
    hidden = MappingProxyType({"data": np.zeros(4)})

    def loss(a: Any) -> Any:
        plain = hidden["data"]
        plain[:] = a[0]
        return plain.sum()

    message = refusal(loss, x)
    assert "is turned into an ordinary one, which NumPy cannot see through" in message
    assert here(loss, 2) in message


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda a: np.interp(a, [0, 1], [0, 1], period=1).sum(), "np.interp with period="),
        (lambda a: np.unique(a).sum(), "numpy.unique"),
        (lambda a: np.linalg.eig(a[:, :3])[0].sum(), "numpy.linalg.eig"),
        (lambda a: np.linalg.qr(a, mode="raw")[0].sum(), "np.linalg.qr with mode='raw'"),
        (lambda a: np.fft.fft(a).real.sum(), "numpy.fft.fft"),
        (lambda a: np.add(a, 1, where=a > 0).sum(), "np.add(..., where=mask) without out="),
        (lambda a: np.frexp(a)[0].sum(), "numpy.frexp"),
        (lambda a: np.nanmedian(a), "numpy.nanmedian"),
        (lambda a: np.isin(np.round(a, 1), [0.1]).sum(), "np.isin of numbers"),
        (lambda a: np.quantile(a, 0.5, weights=a**2), "np.quantile with weights="),
        (lambda a: np.cov(a, aweights=a[0] ** 2).sum(), "np.cov with weights"),
        (lambda a: np.cross(a[:, :2], a[:, 2:]).sum(), "vectors of length 2"),
        (lambda a: sum(float(b) for b in np.nditer(a)), "np.nditer"),
        (lambda a: np.vectorize(lambda b: (b, b))(a)[0].sum(), "several results"),
        (lambda a: np.pad(a, 1, mode="mean").sum(), "np.pad with mode='mean'"),
        (lambda a: a.view(np.int64).sum(), "ndarray.view"),
        (lambda a: pickle.loads(pickle.dumps(a)).sum(), "pickled"),
        (lambda a: np.frombuffer(a.tobytes()).sum(), "turned into bytes"),
        (lambda a: scipy.special.sici(a)[0].sum(), "ufunc.sici"),
        (lambda a: logsumexp(a, return_sign=True)[0], "logsumexp with return_sign="),
        (lambda a: np.sum(a[0, 0][a[0, 0] > 0]), "indexed by a single True or False"),
        (lambda a: math.fsum(a[0].data), "ndarray.data"),
    ],
)
def test_what_has_no_rule_is_refused(x: np.ndarray, loss: Any, what: str) -> None:
    assert what in refusal(loss, x)


def test_code_that_swallows_a_refusal_is_not_trusted(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        try:
            return np.unique(a).sum()
        except Exception:
            return a.sum() * 0

    assert "numpy.unique" in refusal(loss, x)


def test_an_attribute_that_may_be_missing_can_be_asked_for(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        return a if hasattr(a, "toarray") else a.sum()

    traced(loss, x)


def test_an_error_of_the_user_s_own_is_told(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        raise KeyError("W7")

    assert refusal(loss, x) == "the forward pass cannot run on traced arrays: KeyError: 'W7'"


@pytest.mark.parametrize(
    "use",
    [
        lambda old, a: (old + a).sum(),
        lambda old, a: (a + old).sum(),
        lambda old, a: a.sum() + float(old[0, 0]),
        lambda old, a: np.concatenate([a, old]).sum(),
        lambda old, a: a.sum() if old[0, 0] > 0 else 0.0,
        lambda old, a: old.sum(),
        lambda old, a: np.where(a > 0, a, old).sum(),
        lambda old, a: (a * np.asarray(old)).sum(),
        lambda old, a: np.dot(a, old.T).sum(),
        lambda old, a: old[0, 0],
    ],
)
def test_an_array_kept_from_an_old_trace_is_refused(x: np.ndarray, use: Any) -> None:
    kept: list[Any] = []
    trace(lambda a: (kept.append(a), a.sum())[1], ParamTree.from_user(x))
    message = refusal(lambda a: use(kept[0], a), x)
    assert "an array kept from an earlier forward pass is used" in message
    assert "compute it anew" in message


def test_a_whole_loss_kept_from_an_old_trace_is_refused(x: np.ndarray) -> None:
    kept: list[Any] = []
    trace(lambda a: (kept.append(a.sum()), kept[0])[1], ParamTree.from_user(x))
    assert "kept from an earlier forward pass" in refusal(lambda a: kept[0], x)


def test_functions_without_a_rule_run_on_constants(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        grid = np.unique(np.zeros(3) + 1.0)
        return np.sum(a * grid) + np.interp(0.5, np.zeros(2), np.ones(2))

    traced(loss, x)


def test_writing_after_other_code_read_an_array_is_refused(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        made = np.ones(3)
        memoryview(np.asarray(made.__array__()))
        made[0] = a[0, 0]
        return made.sum()

    assert "written to after code outside NumPy's protocols read it" in refusal(loss, x)


def test_copies_are_traced(x: np.ndarray) -> None:
    traced(lambda a: (copy.copy(a) * copy.deepcopy(a)).sum(), x)
    traced(lambda p: copy.deepcopy(p)["a"].sum(), {"a": x})


def test_messages_name_the_user_s_line_not_a_library_s(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        return scipy.special.softmax(np.unique(a)).sum()

    message = refusal(loss, x)
    assert here(loss, 1) in message


def test_a_refusal_is_a_fastcheck_error() -> None:
    assert issubclass(Untraceable, Exception)


def test_scipy_s_ufuncs_are_traced(x: np.ndarray) -> None:
    def loss(a: Any) -> Any:
        s = scipy.special
        return np.sum(s.expit(a) + s.log_expit(a) + s.erf(a) - s.erfc(a) + s.xlogy(a**2, a**2))

    traced(loss, x)


@pytest.mark.parametrize(
    "loss",
    [
        lambda a: np.sum(scipy.special.logsumexp(a, axis=1) ** 2),
        lambda a: logsumexp(a, keepdims=True),
        lambda a: np.sum(scipy.special.softmax(a, axis=(0, 1)) ** 2),
        lambda a: np.sum(special.log_softmax(a, axis=-1)[:, 0]),
        lambda a: np.sum(scipy.special.softmax(np.zeros(3)) * a[:, 0]),
    ],
)
def test_scipy_s_softmax_family_is_traced(x: np.ndarray, loss: Any) -> None:
    original = scipy.special.softmax
    traced(loss, x)
    assert scipy.special.softmax is original
