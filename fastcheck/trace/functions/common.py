"""What the rules share: finding the tape, lifting plain data, reading axis arguments."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from types import ModuleType
from typing import Any, NoReturn

import numpy as np

from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced, as_node, contains_traced, wrap


def tape_of(*values: Any) -> Tape:
    """Return the tape of the first traced array among (nested) arguments."""
    for value in values:
        if isinstance(value, Traced):
            return value.tape
        if isinstance(value, (list, tuple)) and (found := _search(value)) is not None:
            return found
    raise TypeError("no traced array among the arguments")


def refuse(what: str, remedy: str, *values: Any) -> NoReturn:
    """Refuse a form of a function that has no rule."""
    tape_of(*values).refuse(f"{what} cannot be traced", remedy)


def _search(values: Any) -> Tape | None:
    try:
        return tape_of(*values)
    except TypeError:
        return None


def lift(value: Any, tape: Tape) -> Traced:
    """Return plain data as a traced constant; a traced array as it is."""
    return value if isinstance(value, Traced) else wrap(tape, as_node(tape, value))


def apply(primitive: Primitive, *values: Any, **params: Any) -> Traced:
    """Record `primitive` on traced or plain operands."""
    tape = tape_of(*values)
    nodes = [as_node(tape, value) for value in values]
    return wrap(tape, tape.apply(primitive, *nodes, **params))


def record(primitive: Primitive, value: Any, *operands: Any, **params: Any) -> Traced:
    """Record `primitive` with the value that NumPy itself gave."""
    tape = tape_of(*operands)
    nodes: tuple[Node, ...] = tuple(as_node(tape, operand) for operand in operands)
    return wrap(tape, tape.record(primitive, nodes, params, value))


def axis_tuple(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return an axis argument (None, an int, a tuple) as a tuple of axes from 0 to ndim − 1."""
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    if not ndim and tuple(axes) in ((0,), (-1,)):
        return ()  # NumPy lets numbers pass for arrays of one axis here
    return tuple(one_axis(one, ndim) for one in axes)


def one_axis(axis: Any, ndim: int) -> int:
    axis = operator.index(axis)
    if not -ndim <= axis < ndim:
        raise np.exceptions.AxisError(axis, ndim)
    return int(axis) % ndim


def stand_ins(module: ModuleType, rules: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    """Return what takes the place of a module's functions: the rule for traced arrays, by name."""
    known = {name: rule for name, rule in rules.items() if hasattr(module, name)}
    return {name: _either(rule, getattr(module, name)) for name, rule in known.items()}


def _either(rule: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def choose(*args: Any, **kwargs: Any) -> Any:
        reached = contains_traced(args) or contains_traced(kwargs)
        return (rule if reached else original)(*args, **kwargs)

    return choose
