"""From a slice to a program: every node's difference as a form, the last one as an expression."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

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
from fastcheck.fusion.rules import RULES, TAKES_JOINTS
from fastcheck.trace.graph import Node
from fastcheck.trace.slices import Slice

_MOST_EXPRESSIONS = 20_000


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


def lower(part: Slice, group: Group, reach: float, most: float = inf) -> Program:
    """Express the change of the loss for one perturbed element of a group.

    Parameters
    ----------
    part : Slice
        What the tensor reaches.
    group : Group
        The elements, one of which is perturbed.
    reach : float
        The bound on the arguments of polynomials.
    most : float
        How many expressions may be made.

    Raises
    ------
    NotFusable
        What the slice does that a kernel does not, or that it is too long for one.
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
        if len(algebra.table) > min(most, _MOST_EXPRESSIONS):
            raise NotFusable("the kernel would be too long")
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
    if node.primitive not in TAKES_JOINTS:
        operands = [None if form is None else algebra.plain(form) for form in operands]
    form = rule(algebra, node, operands)
    return form if form is not None and form.terms else None


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
