"""The gradient of the step before: where the next one is wrong, it may be this one, or hold it."""

from __future__ import annotations

from typing import Any

from fastcheck.engines.base import FloatArray
from fastcheck.errors import FastcheckError
from fastcheck.params import ParamTree, match_gradients
from fastcheck.params.nesting import is_namedtuple
from fastcheck.params.places import is_array

_DEEPEST = 16


def copied(grads: Any, depth: int = 0) -> Any:
    """Return a nesting with its arrays copied, as quickly as that goes; it is seldom looked at."""
    if is_array(grads):
        return grads.copy()
    if depth > _DEEPEST:
        return None
    if isinstance(grads, dict):
        return {name: copied(one, depth + 1) for name, one in grads.items()}
    if isinstance(grads, list | tuple):
        parts = [copied(one, depth + 1) for one in grads]
        return grads._make(parts) if is_namedtuple(grads) else parts  # type: ignore[union-attr]
    return None if callable(grads) else grads


def matched(tree: ParamTree, previous: Any) -> dict[str, FloatArray] | None:
    """Return it by tensor, if it is one of the same parameters."""
    if previous is None:
        return None
    try:
        return match_gradients(tree, previous)
    except FastcheckError:
        return None
