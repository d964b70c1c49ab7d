"""Reports made by hand: ordinary unless a test says otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from fastcheck.report import Report, TensorReport, Verdict, Worst

_SEVERITY = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL]


def make_tensor(name: str = "W1", shape: tuple[int, ...] = (10, 784), **changes: Any) -> Any:
    size = math.prod(shape)
    ordinary: dict[str, Any] = {
        "name": name,
        "shape": shape,
        "dtype": "float64",
        "verdict": Verdict.PASS,
        "reason": "",
        "checked": size,
        "size": size,
        "relative_error": 3.1e-11,
        "worst": Worst(tuple(length - 1 for length in shape), 1.234e-3, 1.234e-3, 2e-12),
        "resolution": 2.1e-10,
        "kinked": 0,
        "step": 2.0**-30,
        "engine": "replay",
        "engine_reason": "",
        "forward_passes": 2 * changes.get("checked", size),
        "loss_calls": 6,
        "seconds": 0.1,
        "notes": (),
    }
    return TensorReport(**(ordinary | changes))


def make_report(*tensors: TensorReport, **changes: Any) -> Any:
    verdicts = [tensor.verdict for tensor in tensors] or [Verdict.PASS]
    ordinary: dict[str, Any] = {
        "verdict": max(verdicts, key=_SEVERITY.index),
        "loss": math.log(10),
        "tensors": {tensor.name: tensor for tensor in tensors},
        "method": "central",
        "relative_error": 4e-11,
        "seconds": 0.41,
        "loss_calls": 24,
        "notes": (),
        "fastcheck_version": "0.1.0",
    }
    return Report(**(ordinary | changes))


@pytest.fixture
def tensor() -> Callable[..., TensorReport]:
    """Make one TensorReport: name, shape, and whatever differs from an ordinary pass."""
    return make_tensor


@pytest.fixture
def report() -> Callable[..., Report]:
    """Make one Report of the given tensors, its verdict the worst of theirs."""
    return make_report
