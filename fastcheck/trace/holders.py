"""Objects of the user's that may hold a module or a function: `self.xp = cupy`.

Whoever writes for NumPy and CuPy alike often keeps the module that he computes with on his objects.
"""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from fastcheck.trace.source import is_library

_MOST_OBJECTS = 1000
_LONG = 100
"""Longer containers hold data, and no layers."""


def attributes_of_objects(functions: Iterable[types.FunctionType], *roots: Any) -> list[Any]:
    """Return the `__dict__` of every object of the user's that `functions` and `roots` lead to."""
    waiting = deque(roots)
    for function in functions:
        waiting.extend(_held_by(function))
    seen: dict[int, Any] = {}
    found = []
    while waiting and len(seen) < _MOST_OBJECTS:
        value = waiting.popleft()
        if id(value) in seen or isinstance(value, (type, types.ModuleType)):
            continue
        seen[id(value)] = value  # an id is only good while its object lives
        if isinstance(value, (list, tuple, dict)):
            waiting.extend(_parts(value))
        elif isinstance(value, types.MethodType):
            waiting.append(value.__self__)
        elif isinstance(value, types.FunctionType):
            waiting.extend(_held_by(value))
        elif (space := _attributes(value)) is not None:
            found.append(space)
            waiting.extend(space.values())
    return found


def _parts(container: Any) -> Iterable[Any]:
    if len(container) > _LONG:
        return ()
    return list(container.values() if isinstance(container, dict) else container)


def _attributes(value: Any) -> dict[str, Any] | None:
    """Return an object's own `__dict__`; None for what is not of a class of the user's."""
    kind = type(value)
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if kind is not types.SimpleNamespace and (
        kind.__module__ == "builtins" or (file is not None and is_library(file))
    ):
        return None
    try:
        space = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return None
    return space if type(space) is dict else None


def _held_by(function: types.FunctionType) -> Iterator[Any]:
    """Return what the user's function finds in its closure and by the global names in its code."""
    if is_library(function.__code__.co_filename):
        return
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that is not assigned yet
            continue
    for name in names_in(function.__code__):
        if name in function.__globals__:
            yield function.__globals__[name]


def names_in(code: types.CodeType) -> set[str]:
    """Return the names that the code and the functions defined inside it look up."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return set(code.co_names).union(*map(names_in, inner))
