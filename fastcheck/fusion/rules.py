"""How each primitive acts on forms: the register, and the frame of elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.fusion.dims import Dim, Joint, NotFusable
from fastcheck.fusion.form import Algebra, Axis, Form
from fastcheck.fusion.hoisted import Hoisted, known
from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.primitives import CAST, ELEMENTWISE, SIGMOID, SPECIAL, WHERE
from fastcheck.trace.primitives import elementwise as primitive_of

Forms = list[Form | None]
Rule = Callable[[Algebra, Node, Forms], Form | None]
RULES: dict[Primitive, Rule] = {}
TAKES_JOINTS: set[Primitive] = {*ELEMENTWISE.values(), *SPECIAL.values(), SIGMOID, CAST, WHERE}
"""Primitives whose rules know axes that were made of several; others see one label instead."""


def rule(*primitives: Primitive, joints: bool = False) -> Callable[[Rule], Rule]:
    """Register the rule of one or more primitives; None means that no copy changes the node."""

    def register(function: Rule) -> Rule:
        for primitive in primitives:
            RULES[primitive] = function
            if joints:
                TAKES_JOINTS.add(primitive)
        return function

    return register


class Site:
    """An elementwise node: its operands' differences on common axes, and constants there."""

    def __init__(self, algebra: Algebra, node: Node, forms: Forms) -> None:
        self.algebra = algebra
        self.node = node
        aligned = [None if form is None else _aligned(form, node.ndim) for form in forms]
        unified = iter(algebra.unify(*[form for form in aligned if form is not None]))
        self.forms: list[Any] = [None if form is None else next(unified) for form in aligned]
        present = [form for form in self.forms if form is not None]
        self.axes: list[Axis] = [
            next((form.axes[axis] for form in present if form.axes[axis] is not None), None)
            for axis in range(node.ndim)
        ]

    def hoist(self, array: Any) -> Hoisted:
        """Return a constant that broadcasts to the node, where the copies differ."""
        return hoist(self.algebra, array, self.axes)

    def load(self, array: Any) -> Any:
        """Return an element of a constant as an expression."""
        return self.algebra.table.load(self.hoist(array))

    def scale(self, form: Form, array: Any) -> Form:
        """Multiply a difference by a constant."""
        factor = self.hoist(array)
        return self.algebra.scale(form, factor, self.axes)

    def variable(self, value: Any) -> Form:
        """Return a new variable as the node's difference."""
        return self.algebra.variable(self.axes, value)

    def linear(self, form: Form) -> Form:
        """Return a form on the site's axes, unchanged otherwise."""
        return Form(tuple(self.axes), form.terms)


def _aligned(form: Form, ndim: int) -> Form:
    return Form((None,) * (ndim - len(form.axes)) + form.axes, form.terms)


def hoist(algebra: Algebra, array: Any, axes: list[Axis]) -> Hoisted:
    """Return an array that lines up with `axes`; an axis that followed nothing gets a label."""
    array = real(array)
    if not array.size:
        raise NotFusable("an array is empty")
    lead = len(axes) - array.ndim
    dims: list[Dim | None] = []
    shape: list[int] = []
    for axis, size in enumerate(array.shape, start=lead):
        if size == 1:
            continue
        follows = axes[axis] = labelled(algebra, axes[axis], size)
        for dim, part in follows.parts if isinstance(follows, Joint) else ((follows, size),):
            dims.append(dim)
            shape.append(part)
    return known(array.reshape(shape), dims)


def labelled(algebra: Algebra, axis: Axis, size: int) -> Dim | Joint:
    """Return an axis, with new labels where it follows nothing."""
    if isinstance(axis, Joint):
        return Joint(tuple((dim or algebra.label(part), part) for dim, part in axis.parts))
    return axis or algebra.label(size)


def real(array: Any) -> Any:
    """Return an array as float64; a NotFusable for one that has no such values."""
    array = np.asarray(array)
    if array.dtype.kind not in "fiub":
        raise NotFusable(f"an array of {array.dtype} takes part")
    return array.astype(np.float64, copy=False)


Formula = Callable[[Site], Form | None]


def elementwise_rule(formula: Formula) -> Rule:
    """Turn a formula on sites into a rule."""
    return lambda algebra, node, forms: formula(Site(algebra, node, forms))


def formula(*ufuncs: np.ufunc) -> Callable[[Formula], Formula]:
    """Register a formula as the rule of NumPy ufuncs."""

    def register(function: Formula) -> Formula:
        for ufunc in ufuncs:
            RULES[primitive_of(ufunc)] = elementwise_rule(function)
        return function

    return register


def drop(form: Form, axes: tuple[int, ...], keepdims: bool) -> tuple[Axis, ...]:
    """Return the axes that are left of a form after a reduction."""
    if keepdims:
        return tuple(None if axis in axes else old for axis, old in enumerate(form.axes))
    return tuple(old for axis, old in enumerate(form.axes) if axis not in axes)
