"""The register of difference rules: how a finite difference passes through each primitive.

A rule takes `(context, node, deltas)`, one delta an operand, None for an operand that no copy
changes, and returns the difference of the node's value, or None when no copy changes it. At least
one delta is present. Differences are exact, not first order: they hold for any step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fastcheck.differences.context import Context
from fastcheck.differences.delta import Delta
from fastcheck.trace.graph import Node, Primitive

Deltas = list[Delta | None]
Rule = Callable[[Context, Node, Deltas], Delta | None]
SomeRule = TypeVar("SomeRule", bound=Rule)

RULES: dict[Primitive, Rule] = {}
# Primitives whose rule subtracts two nearly equal numbers; a slice with one needs a larger step.
CANCELLING: set[Primitive] = set()


def rule(*primitives: Primitive) -> Callable[[SomeRule], SomeRule]:
    """Register the rule of one or more primitives."""

    def register(function: SomeRule) -> SomeRule:
        for primitive in primitives:
            if primitive in RULES:
                raise ValueError(f"{primitive} has a rule already")
            RULES[primitive] = function
        return function

    return register
