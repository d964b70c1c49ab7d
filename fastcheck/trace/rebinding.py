"""Data as traced constants, for code that calls a method of plain data: `X.dot(W)`.

`X.dot` is C code of an ordinary array, which no protocol reaches. If X is a traced constant, it is
the method of a traced array. So the loss is cloned with the float arrays that it and the functions
it calls find in closures, defaults and globals replaced. The user's own functions are not touched.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.bound import Bound
from fastcheck.params.places import is_device_array
from fastcheck.trace.holders import names_in
from fastcheck.trace.source import is_library
from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import wrap

_MOST_FUNCTIONS = 500


def with_traced_data(function: Callable[..., Any], tape: Tape) -> Callable[..., Any]:
    """Return `function` with the plain float arrays that it reaches as traced constants."""
    result: Callable[..., Any] = _Rebinder(tape).replaced(function)
    return result


class _Rebinder:
    """Replaces arrays and the functions that reach them, each once."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._known: dict[int, Any] = {}
        self._keep_alive: list[Any] = []
        self._globals: dict[int, dict[str, Any]] = {}

    def replaced(self, value: Any) -> Any:
        if id(value) in self._known:
            return self._known[id(value)]
        if _is_data(value):
            data = wrap(self._tape, self._tape.constant(value))
            # The user's array may be reached in other ways too, which would not see a write.
            data.forbid_writes()
            return self._remember(value, data)
        if isinstance(value, types.FunctionType) and _of_the_user(value):
            return self._clone(value)
        if isinstance(value, types.MethodType) and isinstance(value.__func__, types.FunctionType):
            return types.MethodType(self.replaced(value.__func__), value.__self__)
        if isinstance(value, Bound):
            arguments = tuple(map(self.replaced, value.arguments))
            return value.with_parts(self.replaced(value.function), arguments)
        if isinstance(value, functools.partial):
            args = [self.replaced(arg) for arg in value.args]
            named = {name: self.replaced(arg) for name, arg in value.keywords.items()}
            return functools.partial(self.replaced(value.func), *args, **named)
        if type(value) in (list, tuple, dict):
            return self._container(value)
        return value

    def _remember(self, value: Any, new: Any) -> Any:
        self._keep_alive.append(value)  # an id is only good while its object lives
        self._known[id(value)] = new
        return new

    def _container(self, value: Any) -> Any:
        """Containers of arrays, such as a list of minibatches; others stay the user's own."""
        parts = list(value.values() if isinstance(value, dict) else value)
        if not any(map(_is_data, parts)):
            return value
        new = [self.replaced(part) for part in parts]
        made = dict(zip(value, new, strict=True)) if isinstance(value, dict) else type(value)(new)
        return self._remember(value, made)

    def _clone(self, function: types.FunctionType) -> Any:
        if len(self._known) > _MOST_FUNCTIONS:
            return function
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        clone = types.FunctionType(
            function.__code__,
            self._namespace(function),
            function.__name__,
            self.replaced(function.__defaults__) if function.__defaults__ else None,
            cells or None,
        )
        clone.__kwdefaults__ = function.__kwdefaults__
        clone.__dict__.update(function.__dict__)
        self._remember(function, clone)  # before its cells: functions may refer to themselves
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self.replaced(original.cell_contents)
            except ValueError:  # a variable that is not assigned yet
                continue
        return clone

    def _namespace(self, function: types.FunctionType) -> dict[str, Any]:
        """Return a copy of the function's globals with what its code names replaced."""
        source = function.__globals__
        space = self._globals.get(id(source))
        if space is None:
            space = self._globals[id(source)] = dict(source)
        for name in names_in(function.__code__):
            if name in source:
                value = source[name]
                self._keep_alive.append(value)
                space[name] = value  # functions may name each other in a circle
                space[name] = self.replaced(value)
        return space


def _is_data(value: Any) -> bool:
    return (type(value) is np.ndarray or is_device_array(value)) and value.dtype.kind == "f"


def _of_the_user(function: types.FunctionType) -> bool:
    return not is_library(function.__code__.co_filename)
