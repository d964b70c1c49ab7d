"""fastcheck: is a hand-written backward pass right, and if not, where and why?

>>> report = fastcheck.check(loss, params, grads)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from fastcheck.check import check, numerical_gradient
from fastcheck.errors import FastcheckError, GradientError, InputError, InputTypeError
from fastcheck.explain import Explanation, explain
from fastcheck.problems.problem import Problem
from fastcheck.report.data import Diagnosis, Finding, Report, TensorReport, Verdict, Worst
from fastcheck.version import __version__

__all__ = [
    "Diagnosis",
    "Explanation",
    "FastcheckError",
    "Finding",
    "GradientError",
    "InputError",
    "InputTypeError",
    "Monitor",
    "Problem",
    "Record",
    "Report",
    "TensorReport",
    "Verdict",
    "Worst",
    "__version__",
    "check",
    "explain",
    "numerical_gradient",
    "planted",
    "read_jsonl",
]

if TYPE_CHECKING:
    from fastcheck import planted
    from fastcheck.monitor.jsonl import read_jsonl
    from fastcheck.monitor.monitor import Monitor
    from fastcheck.monitor.record import Record
else:
    _LATER = {
        "Monitor": "fastcheck.monitor.monitor",
        "Record": "fastcheck.monitor.record",
        "planted": "",
        "read_jsonl": "fastcheck.monitor.jsonl",
    }

    def __getattr__(name):
        """Import what not every check needs when it is first asked for."""
        from importlib import import_module

        if name not in _LATER:
            raise AttributeError(f"module 'fastcheck' has no attribute {name!r}")
        if not _LATER[name]:
            return import_module(f"fastcheck.{name}")
        return getattr(import_module(_LATER[name]), name)
