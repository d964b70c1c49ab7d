"""Which leaves can be parameters or gradients, and what to say about those that cannot."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Iterator, MappingView, Sequence
from typing import Any

import numpy as np

from fastcheck.params.places import imported_cupy, is_device_array

_PARAMETER_TYPES = (np.float16, np.float32, np.float64, np.complex64, np.complex128)
_MOST_LISTED = 50


def parameter_flaw(leaf: Any, remedy: str = "leave it out of the tree") -> str | None:
    """What keeps `leaf` from being a parameter, with the remedy; None if nothing does."""
    if (flaw := _unusable_kind(leaf)) is not None:
        return flaw
    if isinstance(leaf, np.ndarray) and type(leaf) not in (np.ndarray, np.memmap):
        return f"a {_type_name(leaf)}, a subclass of ndarray; use np.asarray(...)"
    if is_device_array(leaf) and type(leaf) is not imported_cupy().ndarray:
        return f"a {_type_name(leaf)}, a subclass of cupy.ndarray; use cupy.asarray(...)"
    if is_device_array(leaf) and leaf.dtype.kind == "c":
        return (
            f"{_array_text(leaf)}; use its .real and .imag as two float arrays, for complex "
            "parameters are checked in main memory only (cupy.asnumpy)"
        )
    if isinstance(leaf, np.ndarray | np.generic) or is_device_array(leaf):
        return None if leaf.dtype.type in _PARAMETER_TYPES else _dtype_flaw(leaf, remedy)
    return None if isinstance(leaf, float | complex) else _object_flaw(leaf, remedy)


def gradient_flaw(leaf: Any, complex_too: bool = False) -> str | None:
    """What keeps `leaf` from being a gradient, with the remedy; None if nothing does.

    That of a complex parameter may be `complex_too`.
    """
    remedy = "give a float array"
    if (flaw := _unusable_kind(leaf)) is not None:
        return flaw
    if isinstance(leaf, complex) and not complex_too:
        return f"{leaf!r}, a complex number; use its .real, for the parameter is real"
    if isinstance(leaf, np.ndarray | np.generic) or is_device_array(leaf):
        if leaf.dtype.kind == "c" and not complex_too:
            return f"{_array_text(leaf)}; use its .real, for the parameter is real"
        kinds = "fiuc" if complex_too else "fiu"
        return None if leaf.dtype.kind in kinds else _dtype_flaw(leaf, remedy)
    if isinstance(leaf, int | float | complex) and not isinstance(leaf, bool):
        return None
    return _object_flaw(leaf, remedy)


def is_number(leaf: Any) -> bool:
    """A scalar: a Python or NumPy number, real or complex."""
    return isinstance(leaf, numbers.Complex | np.generic) and not isinstance(leaf, bool | np.bool_)


def listed(problems: Sequence[str]) -> str:
    """One indented line for each problem."""
    lines = [f"  {problem}" for problem in problems[:_MOST_LISTED]]
    if len(problems) > _MOST_LISTED:
        lines.append(f"  ... and {len(problems) - _MOST_LISTED} more")
    return "\n".join(lines)


def _unusable_kind(leaf: Any) -> str | None:
    if type(leaf).__module__.startswith("cupy") and not is_device_array(leaf):
        return f"a {_type_name(leaf)}; give a dense cupy.ndarray, such as .toarray()"
    # Naming np.ma imports it, which takes longer than many a check.
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", ())
    if isinstance(leaf, masked):
        return "a masked array; use .filled(0.0), or leave the masked entries out"
    if isinstance(leaf, np.matrix):
        return "a np.matrix; use np.asarray(...)"
    return None


def _array_text(leaf: Any) -> str:
    return f"{leaf.dtype} array of shape {leaf.shape}"


def _dtype_flaw(leaf: Any, remedy: str) -> str:
    what = _array_text(leaf)
    if leaf.dtype.kind == "c":
        return f"{what}; use .astype(complex)"
    if leaf.dtype.kind in "SUVMm":
        return f"{what}; {remedy}"
    return f"{what}; use .astype(float)"


def _object_flaw(leaf: Any, remedy: str) -> str:
    if leaf is None:
        return f"None; {remedy}"
    if isinstance(leaf, bool | int):
        return f"{leaf!r}, a Python {type(leaf).__name__}; use float(...)"
    if isinstance(leaf, str | bytes):
        return f"a {type(leaf).__name__}; {remedy}"
    if callable(leaf):
        return f"a callable ({_type_name(leaf)}); {remedy}"
    if isinstance(leaf, Iterator | MappingView):
        return f"an object of type {_type_name(leaf)}; use list(...)"
    if hasattr(leaf, "__dict__") and not hasattr(leaf, "__array__"):
        return f"an object of type {_type_name(leaf)}; give its arrays in a dict or a list"
    return f"an object of type {_type_name(leaf)}; use np.asarray(..., dtype=float)"


def _type_name(leaf: object) -> str:
    kind = type(leaf)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
