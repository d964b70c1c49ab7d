"""CuPy's functions of traced arrays: they are NumPy's functions of the same name.

CuPy has NumPy's names and meanings. Its operators and universal functions hand over to the traced
array themselves (`call_kernel`); its other functions take nothing but CuPy's arrays. So while a
loss is traced, the user's modules see stand-ins for them, as they do for NumPy's makers of arrays.
"""

from __future__ import annotations

import importlib
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from fastcheck.params.places import Place, imported_cupy, is_device_array
from fastcheck.trace.dispatch import into
from fastcheck.trace.functions.making import joiners, makers, shaped_like
from fastcheck.trace.functions.softmax import softmax_family
from fastcheck.trace.registry import TRACED
from fastcheck.trace.tape import DEVICE_REMEDY, Tape
from fastcheck.trace.traced import Traced, contains_traced

# What CuPy has kept under names that NumPy 2 has not.
_OLD_NAMES = {
    "round_": np.round,
    "product": np.prod,
    "cumproduct": np.cumprod,
    "alltrue": np.all,
    "sometrue": np.any,
}
_MAKERS = ("zeros", "ones", "empty", "full")
_LIKE = ("zeros_like", "ones_like", "empty_like", "full_like")
_UPLOADS = ("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray")
_ON_THE_DEVICE_ONLY = ("stream", "blocking")


def call_kernel(tape: Tape, kernel: Any, args: Any, kwargs: Any) -> Any:
    """Answer a CuPy ufunc or kernel that was called with a traced array.

    CuPy calls this with the positional arguments, outputs among them, before it looks at any.
    """
    ufunc = _counterpart_of_kernel(kernel)
    if ufunc is None:
        tape.refuse(
            f"the CuPy kernel {kernel.name!r} of an array that depends on the parameters cannot be "
            "traced",
            f"write it with functions of arrays; or {DEVICE_REMEDY}",
        )
    outs = args[kernel.nin :] or _as_tuple(kwargs.pop("out", None))
    where = kwargs.pop("_where", None)
    given = {key: value for key, value in kwargs.items() if key == "dtype" and value is not None}
    if where is not None:
        given["where"] = where
    result = ufunc(*tape.downloads.hosted(args[: kernel.nin]), **tape.downloads.hosted(given))
    return into(tape, result, outs[0]) if outs else result


def _as_tuple(out: Any) -> tuple[Any, ...]:
    if out is None:
        return ()
    return out if isinstance(out, tuple) else (out,)


def _counterpart_of_kernel(kernel: Any) -> Callable[..., Any] | None:
    """Return NumPy's or SciPy's function of a CuPy ufunc; None for kernels that users wrote."""
    if type(kernel) is not type(imported_cupy().add):
        return None
    name: str = kernel.name
    for prefix in ("cupyx_scipy_special_", "cupyx_scipy_", "cupy_"):
        name = name.removeprefix(prefix)
    found = getattr(np, name, None)
    if isinstance(found, np.ufunc) or (found in TRACED and name != "copy"):
        return found
    return _of_scipy(name)


def _of_scipy(name: str) -> Callable[..., Any] | None:
    try:
        special = importlib.import_module("scipy.special")  # has what `cupyx.scipy.special` has
    except ImportError:
        return None
    found = getattr(special, name, None)
    return found if isinstance(found, np.ufunc) else None


def device_functions(tape: Tape) -> dict[str, Any]:
    """Return what takes the place of CuPy's functions, by name, in this thread."""
    cupy = imported_cupy()
    known = makers(tape)
    found: dict[str, Any] = {}
    for name, original in list(vars(cupy).items()):
        counterpart = known.get(name) or getattr(np, name, None) or _OLD_NAMES.get(name)
        if not _is_function(original) or original is getattr(np, name, None):
            continue
        found[name] = _Function(original, counterpart, tape)
    found |= {name: _maker(getattr(cupy, name), known[name]) for name in (*_MAKERS, *_LIKE)}
    found |= {name: _uploading(found[name], tape) for name in _UPLOADS if name in found}
    found |= joiners(vars(cupy), threading.get_ident())
    found["asnumpy"] = _as_numpy(cupy.asnumpy)
    found["ndarray"] = _array_type(cupy.ndarray)
    return found


def functions_of(module: types.ModuleType, numpys: types.ModuleType, tape: Tape) -> dict[str, Any]:
    """The same for a module inside CuPy, such as `cupy.linalg`."""
    return {
        name: _Function(original, getattr(numpys, name, None), tape)
        for name, original in list(vars(module).items())
        if _is_function(original)
    }


def special_functions(module: types.ModuleType, tape: Tape) -> dict[str, Any]:
    """The same for `cupyx.scipy.special`."""
    return {
        name: _Function(original, _later(name, tape), tape)
        for name, original in list(vars(module).items())
        if _is_function(original)
    } | softmax_family(module)


def _later(name: str, tape: Tape) -> Callable[..., Any]:
    """SciPy's function of a name, looked for only once it is called: SciPy takes long to load."""

    def call(*args: Any, **kwargs: Any) -> Any:
        function = _of_scipy(name)
        if function is None:
            _refuse(tape, f"cupyx.scipy.special.{name}")
        return function(*args, **kwargs)

    return call


def array_module(original: Any, cupy: Any, numpy: Any) -> Callable[..., Any]:
    """Return `cupy.get_array_module` with stand-ins for the two modules that it chooses from."""

    def get_array_module(*args: Any) -> Any:
        traced = any(type(arg) is Traced and arg.tape.place is not None for arg in args)
        return numpy if original(*args) is np and not traced else cupy

    return get_array_module


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, (type, types.ModuleType))


def _refuse(tape: Tape, name: str) -> NoReturn:
    tape.refuse(
        f"{name} of an array that depends on the parameters cannot be traced",
        "rewrite it with elementwise functions, reductions and matrix products; or give "
        "batched=True",
    )


class _Function:
    """A CuPy function or ufunc. Of traced arrays it is NumPy's function of the same name."""

    def __init__(self, original: Any, counterpart: Any, tape: Tape) -> None:
        self._original = original
        self._counterpart = counterpart
        self._tape = tape

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (contains_traced(args) or contains_traced(kwargs)):
            return self._original(*args, **kwargs)
        if self._counterpart is None:
            _refuse(self._tape, f"cupy.{getattr(self._original, '__name__', 'a function')}")
        hosted = self._tape.downloads.hosted
        given = {name: value for name, value in kwargs.items() if name not in _ON_THE_DEVICE_ONLY}
        return self._counterpart(*hosted(args), **hosted(given))

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._original, name)
        if not _is_function(found):
            return found
        return _Function(found, getattr(self._counterpart, name, None), self._tape)


def _uploading(function: Callable[..., Any], tape: Tape) -> Callable[..., Any]:
    """A function that brings NumPy's arrays to the device: traced ones have CuPy's manners then."""

    def upload(*args: Any, **kwargs: Any) -> Any:
        if tape.place is None and (contains_traced(args) or contains_traced(kwargs)):
            tape.place = Place.here()
        return function(*args, **kwargs)

    return upload


def _maker(original: Callable[..., Any], numpys: Callable[..., Any]) -> Callable[..., Any]:
    """A maker of float arrays that traced values can be written into; of others, CuPy's own."""

    def make(*args: Any, **kwargs: Any) -> Any:
        given = (shaped_like(args[0]), *args[1:]) if args else args
        made = numpys(*given, **kwargs)
        return made if isinstance(made, Traced) else original(*args, **kwargs)

    return make


def _as_numpy(original: Callable[..., Any]) -> Callable[..., Any]:
    def asnumpy(a: Any, *args: Any, **kwargs: Any) -> Any:
        return a if isinstance(a, Traced) else original(a, *args, **kwargs)

    return asnumpy


def _array_type(original: type) -> type:
    """`cupy.ndarray` for code that asks: traced arrays that stand for CuPy's are of that type."""

    class ArrayType(type):
        def __instancecheck__(cls, value: Any) -> bool:
            if type(value) is Traced:
                return value.tape.place is not None
            return is_device_array(value)

        def __subclasscheck__(cls, other: type) -> bool:
            return other is Traced or issubclass(other, original)

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            return original(*args, **kwargs)

        def __getattr__(cls, name: str) -> Any:
            return getattr(original, name)

    return ArrayType("ndarray", (), {"__module__": "cupy"})
