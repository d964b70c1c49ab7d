"""The namespace of an array, for code written through `xp = array_namespace(x)`.

A traced array's own `__array_namespace__()` gives what the loss sees in the place of NumPy. The
package `array_api_compat` gives a module of its own for NumPy's arrays: it has NumPy's functions
and, as far as NumPy 1 lacks them, the standard's. The user's modules see stand-ins for both.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.trace.tape import Tape
from fastcheck.trace.traced import Traced

_PACKAGE = "array_api_compat"
_LOOKUPS = ("array_namespace", "get_namespace")


def compatibility_packages() -> list[types.ModuleType]:
    """Return array_api_compat, and the copies of it that other packages bring along, if loaded."""
    names = [name for name in list(sys.modules) if name.endswith(_PACKAGE)]
    found = [sys.modules.get(name) for name in names if name.rpartition(".")[2] == _PACKAGE]
    return [module for module in found if isinstance(module, types.ModuleType)]


def numpy_of(package: types.ModuleType) -> types.ModuleType | None:
    """Return the package's own module for NumPy's arrays, which it loads on the first call."""
    try:
        return importlib.import_module(f"{package.__name__}.numpy")
    except ImportError:
        return None


def lookups(package: types.ModuleType, tape: Tape, swaps: dict[int, Any]) -> dict[str, Any]:
    """Return what takes the place of the package's functions that look a namespace up."""
    return {
        name: _lookup(getattr(package, name), tape, swaps)
        for name in _LOOKUPS
        if hasattr(package, name)
    }


def _lookup(original: Callable[..., Any], tape: Tape, swaps: dict[int, Any]) -> Callable[..., Any]:
    def array_namespace(*xs: Any, **kwargs: Any) -> Any:
        traced = any(type(x) is Traced for x in xs)
        if traced and tape.place is not None:
            return tape.cupy
        found = original(*[np.empty(0) if type(x) is Traced else x for x in xs], **kwargs)
        return swaps.get(id(found), found)

    return array_namespace
