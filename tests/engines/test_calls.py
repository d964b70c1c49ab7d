"""NumPy's functions by their rules: the replay gives the differences of the plain loop.

The calls are those of the register's own test, which compares values; here copies are perturbed.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fastcheck import check

from ..trace.test_registry import CALLS, existing, outputs, split
from .test_programs import Program, compare

FAMILIES = """
    linalg gradient trapezoid ediff1d unwrap interp cross cov corrcoef quantile percentile median
    bincount digitize poly vander cumulative logspace linspace piecewise resize diff modf i0 angle
    sliding_window meshgrid average
"""
NAMED = re.compile(rf"np\.\w*({'|'.join(FAMILIES.split())})")
SELECTED = [call for call in split(CALLS) if existing(call) and NAMED.search(call)]


@dataclass(frozen=True)
class Call(Program):
    """A loss of one line, of which every result counts."""

    def loss(self) -> Any:
        (call,) = self.lines
        code = compile(call, "call", "eval")

        def loss(p: dict[str, Any]) -> Any:
            total = 1e-3 * np.sum(p["x"])
            for k, output in enumerate(outputs(eval(code, {"np": np, **p}))):
                total = total + np.sum(np.cos(output * (1.0 + k)))
            return total

        return loss


def params() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    shapes = {"x": (3, 4), "s": (3, 3), "v": (4,), "t": (2, 3, 4)}
    return {name: rng.uniform(0.1, 1.4, shape) - 0.35 for name, shape in shapes.items()}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", SELECTED)
def test_a_call_is_replayed_as_the_loop_computes_it(call: str) -> None:
    used = {k: v for k, v in params().items() if k == "x" or re.search(rf"\b{k}\b", call)}
    with np.errstate(all="ignore"):
        assert compare(Call((call,), used)) == "replayed"


def test_the_families_are_found() -> None:
    assert len(SELECTED) > 120


def test_a_wrong_gradient_of_a_solver_fails() -> None:
    matrix = params()["s"] + 3 * np.eye(3)
    b = np.array([1.0, -2.0, 0.5])

    def loss(p: Any) -> Any:
        return 0.5 * np.sum(np.linalg.solve(p["A"], b) ** 2) + np.linalg.slogdet(p["A"])[1]

    x = np.linalg.solve(matrix, b)
    back = np.linalg.solve(matrix.T, x)
    inverse = np.linalg.inv(matrix)
    right = {"A": -np.outer(back, x) + inverse.T}
    report = check(loss, {"A": matrix}, right)
    assert report.passed, report
    assert report.tensors["A"].engine == "replay"
    assert not check(loss, {"A": matrix}, {"A": -np.outer(x, back) + inverse.T}).passed
    assert not check(loss, {"A": matrix}, {"A": -np.outer(back, x) + inverse}).passed
