"""fastcheck: is a hand-written backward pass right, and if not, where and why?

>>> report = fastcheck.check(loss, params, grads)  # doctest: +SKIP
"""

from fastcheck.check import check, numerical_gradient
from fastcheck.errors import FastcheckError, InputError, InputTypeError
from fastcheck.explain import Explanation, explain
from fastcheck.problems.problem import Problem
from fastcheck.report.data import Report, TensorReport, Verdict, Worst
from fastcheck.version import __version__

__all__ = [
    "Explanation",
    "FastcheckError",
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
]
