"""From a slice to a program: every node's difference as a form, the last one as an expression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastcheck.fusion import (  # noqa: F401  (the rules)
    kinks,
    linear,
    smooth,
    softmax,
    structure,
    writing,
)
from fastcheck.fusion.dims import NotFusable
from fastcheck.fusion.expression import Expression
from fastcheck.fusion.form import Algebra, Form, Term
from fastcheck.fusion.hoisted import Hoisted, elementwise
from fastcheck.fusion.roots import Group
from fastcheck.fusion.rules import RULES
from fastcheck.trace.graph import Node
from fastcheck.trace.slices import Slice


@dataclass(frozen=True, eq=False)
class Program:
    """What the kernel of one group of elements computes.

    Attributes
    ----------
    change : Expression or None
        J(θ + step) − J(θ), without labels; None if the elements do not reach the loss.
    refused : Expression or None
        The condition, without labels, under which a copy is not the kernel's to compute.
    """

    change: Expression | None
    refused: Expression | None


def lower(part: Slice, group: Group, reach: float) -> Program:
    """Express the change of the loss for one perturbed element of a group.

    Raises
    ------
    NotFusable
        What the slice does that a kernel does not.
    """
    algebra = Algebra(reach)
    forms: dict[Node, Form] = {}
    for root, pins in group.roots.items():
        forms[root] = Form(pins, (Term((), algebra.table.step()),))
    for node in part.nodes:
        if node in group.pieces:
            continue
        operands = [forms.get(operand) for operand in node.operands]
        if all(form is None for form in operands):
            continue
        form = _applied(algebra, node, operands)
        if form is not None:
            forms[node] = form
    for guard in part.guards:
        if guard.node in forms:
            raise NotFusable(f"Python reads a number that moves ({guard.source})")
    change, refused = forms.get(part.output), _refusal(algebra)
    if change is None:
        if refused is not None:
            raise NotFusable("the tensor is compared with something, and nothing else")
        return Program(None, None)
    return Program(algebra.value(change), refused)


def _applied(algebra: Algebra, node: Node, operands: list[Form | None]) -> Form | None:
    rule = RULES.get(node.primitive)
    if rule is None:
        raise NotFusable(f"{node.primitive.name} has no kernel ({node.source})")
    return rule(algebra, node, operands)


def _refusal(algebra: Algebra) -> Expression | None:
    """Join the checks: the bounds on one expression become one, where their pins allow it."""
    bounds: dict[Expression, list[Hoisted]] = {}
    for value, bound in algebra.limits:
        known = bounds.setdefault(value, [])
        for place, other in enumerate(known):
            if set(other.pins) <= set(bound.pins) or set(bound.pins) <= set(other.pins):
                known[place] = elementwise(np.minimum, other, bound)
                break
        else:
            known.append(bound)
    refused: Expression | None = None
    for value, several in bounds.items():
        for bound in several:
            condition = value.exceeds(algebra.table.load(bound))
            for label in sorted(condition.labels, key=lambda label: label.number, reverse=True):
                condition = condition.any(label)
            refused = condition if refused is None else refused.either(condition)
    return refused
