"""The register of NumPy functions, keyed by function object.

Every function that NumPy lets a type override is in at most one family:

`TRACED`    a rule made of primitives, called with the arguments of the NumPy function;
`REFUSED`   cannot be traced once a parameter reaches it, with the reason and the remedy.

A function in neither is *constant-only*: it runs as it is while no parameter reaches its
arguments, and is refused otherwise. Nothing is run in the hope that it might work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

Rule = TypeVar("Rule", bound=Callable[..., Any])

TRACED: dict[Any, Callable[..., Any]] = {}


def traced(*functions: Any) -> Callable[[Rule], Rule]:
    """Register a rule for NumPy functions that share one meaning (`np.max`, `np.amax`)."""

    def register(rule: Rule) -> Rule:
        for function in functions:
            TRACED[function] = rule
        return rule

    return register


REFUSED: dict[Any, str] = {
    np.piecewise: "write np.where(condition, this, that)",
    np.apply_over_axes: "call the function once per axis",
    np.interp: "write the line through two points with np.where",
    np.unique: "take the unique values of plain data outside the loss",
    np.histogram: "a histogram has no useful derivative; keep it out of the loss",
    np.save: "keep files out of the loss",
}
