"""log-softmax and log-sum-exp, relative to the winner at θ.

With w the winner, log Σ exp x moves by δx_w + log1p(Σ pₖ·expm1(δxₖ − δx_w)). Taking the winner's
difference out first keeps the digits of a network that has converged, where p_w is nearly 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.fusion.form import Algebra, Form
from fastcheck.fusion.kinks import one_hot, unpin_all
from fastcheck.fusion.linear import contract_like, grown_share
from fastcheck.fusion.rules import Forms, drop, real, rule
from fastcheck.trace.graph import Node
from fastcheck.trace.primitives import LOG_SOFTMAX, LOGSUMEXP


@rule(LOG_SOFTMAX)
def _log_softmax(algebra: Algebra, node: Node, forms: Forms) -> Form | None:
    (form,) = forms
    assert form is not None
    axes = node.params["axes"]
    if all(form.axes[axis] is None for axis in axes):
        return None  # every class moves alike
    _, behind, growth = _relative(algebra, node, form, axes)
    return algebra.minus(behind, growth)


@rule(LOGSUMEXP)
def _logsumexp(algebra: Algebra, node: Node, forms: Forms) -> Form:
    (form,) = forms
    assert form is not None
    axes = node.params["axes"]
    if all(form.axes[axis] is None for axis in axes):
        result = form
    else:
        winner, _, growth = _relative(algebra, node, form, axes)
        result = algebra.plus(winner, growth)
    return Form(drop(result, axes, node.params["keepdims"]), result.terms)


def _relative(
    algebra: Algebra, node: Node, form: Form, axes: tuple[int, ...]
) -> tuple[Form, Form, Form]:
    """Return the winner's difference, those behind it, and the growth of the sum behind it."""
    form = unpin_all(algebra, form, axes)
    winner = contract_like(algebra, form, _winner(node, axes), axes)
    behind = algebra.minus(form, winner)
    return winner, behind, grown_share(algebra, behind, _shares(node, axes), axes)


def _winner(node: Node, axes: tuple[int, ...]) -> Any:
    return one_hot(real(node.operands[0].value), axes)


def _shares(node: Node, axes: tuple[int, ...]) -> Any:
    x = real(node.operands[0].value)
    e = np.exp(x - np.max(x, axis=axes, keepdims=True))
    return e / np.sum(e, axis=axes, keepdims=True)
