"""Whether a function compiled by Numba may run in several threads at the same time.

Numba freezes the global data that a function reads, so nothing but its arguments can be written,
and these are each thread's own. What leaves compiled code (objmode, C functions through pointers)
is not known to be safe, and ``parallel=True`` uses all cores already. So every name that the
function and those it calls look up is gone through, and has to be known.
"""

from __future__ import annotations

import builtins
import sys
import types
from typing import Any

import numpy as np

from fastcheck.trace.holders import names_in

_MOST_FUNCTIONS = 1000
_KNOWN_PACKAGES = ("numpy", "math", "cmath", "operator", "builtins")
_PLAIN = (int, float, complex, bool, str, bytes, np.ndarray, np.generic, np.dtype, range)
_OF_NUMBA = ("njit", "jit", "prange", "literally", "literal_unroll", "types")


def obstacle_to_threads(dispatcher: Any) -> str | None:
    """Say why one thread only may call a compiled function; None if several may."""
    return _Walk().through(dispatcher)


class _Walk:
    """Goes through compiled functions and what they name, each once."""

    def __init__(self) -> None:
        self._seen: dict[int, Any] = {}

    def through(self, dispatcher: Any) -> str | None:
        if id(dispatcher) in self._seen:
            return None
        if len(self._seen) >= _MOST_FUNCTIONS:
            return "it calls very many functions"
        self._seen[id(dispatcher)] = dispatcher
        function = dispatcher.py_func
        if dispatcher.targetoptions.get("parallel"):
            return f"`{function.__name__}` is compiled with parallel=True"
        names = names_in(function.__code__)
        for value in _looked_up(function, names):
            found = self._value(value, names, function.__name__)
            if found is not None:
                return found
        return None

    def _value(self, value: Any, names: set[str], where: str) -> str | None:
        """Say what is not known about a value that a function looks up."""
        if isinstance(value, sys.modules["numba.core.registry"].CPUDispatcher):
            return self.through(value)
        if isinstance(value, types.ModuleType):
            return self._module(value, names, where)
        if value is None or isinstance(value, _PLAIN) or _is_known(value):
            return None
        if isinstance(value, tuple):
            parts = (self._value(part, names, where) for part in value)
            return next((found for found in parts if found is not None), None)
        return f"`{where}` uses {_named(value)}, which is not known to be safe in threads"

    def _module(self, module: types.ModuleType, names: set[str], where: str) -> str | None:
        """Go through what the names may look up in a module."""
        package = module.__name__.partition(".")[0]
        if package in _KNOWN_PACKAGES:
            return None
        for name in names:
            if package == "numba" and name in _OF_NUMBA:
                continue
            value = vars(module).get(name)
            found = None if value is module else self._value(value, names, where)
            if found is not None:
                return found
        return None


def _looked_up(function: Any, names: set[str]) -> list[Any]:
    """Return the values of a function's globals and closure variables."""
    found = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # a variable that is not assigned yet
            continue
    return found


def _is_known(value: Any) -> bool:
    """Whether a value is a function or class of NumPy, the standard mathematics, or Numba's own."""
    module = getattr(value, "__module__", None) or ""
    package = str(module).partition(".")[0]
    name = getattr(value, "__name__", "")
    if package == "numba":
        return name in _OF_NUMBA or isinstance(value, type) or _is_numba_type(value)
    if getattr(builtins, str(name), None) is value:
        return True
    return package in _KNOWN_PACKAGES or isinstance(value, np.ufunc)


def _is_numba_type(value: Any) -> bool:
    return isinstance(value, sys.modules["numba"].types.Type)


def _named(value: Any) -> str:
    return f"`{getattr(value, '__name__', type(value).__name__)}`"
