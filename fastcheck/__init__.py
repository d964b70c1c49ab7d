"""fastcheck: is a hand-written backward pass right, and if not, where and why?

>>> report = fastcheck.check(loss, params, grads)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from fastcheck.check import check, numerical_gradient
from fastcheck.errors import FastcheckError, InputError, InputTypeError
from fastcheck.explain import Explanation, explain
from fastcheck.problems.problem import Problem
from fastcheck.report.data import Diagnosis, Finding, Report, TensorReport, Verdict, Worst
from fastcheck.version import __version__

__all__ = [
    "Diagnosis",
    "Explanation",
    "FastcheckError",
    "Finding",
    "InputError",
    "InputTypeError",
    "Problem",
    "Report",
    "TensorReport",
    "Verdict",
    "Worst",
    "__version__",
    "check",
    "explain",
    "numerical_gradient",
    "planted",
]

if TYPE_CHECKING:
    from fastcheck import planted
else:

    def __getattr__(name):
        """Import `fastcheck.planted`, which few need, when it is first asked for."""
        if name == "planted":
            from importlib import import_module

            return import_module("fastcheck.planted")
        raise AttributeError(f"module 'fastcheck' has no attribute {name!r}")
