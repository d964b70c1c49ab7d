"""Operators and methods of traced arrays: each is the NumPy function of the same meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply
from fastcheck.trace.primitives import ELEMENTWISE
from fastcheck.trace.traced import Traced, wrap

_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
}
_COMPARE = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
_UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}
# ndarray takes these powers through the cheaper ufunc, and so must the trace.
_POWERS = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal}
_METHODS = """
    sum prod mean std var max min argmax argmin any all cumsum cumprod ptp argsort ravel squeeze
    swapaxes repeat take clip round diagonal trace nonzero searchsorted argpartition put
"""


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(exponent, (int, float, np.integer, np.floating)) and exponent in _POWERS:
        return _POWERS[float(exponent)](base)
    return np.power(base, exponent)


def _in_place(function: Callable[..., Any]) -> Callable[[Traced, Any], Any]:
    """`x += y`: writes into an array; a NumPy scalar is rebound instead, as in NumPy."""

    def operate(self: Traced, other: Any) -> Any:
        result = function(self, other)
        return result if self.is_scalar or not isinstance(result, Traced) else self.assign(result)

    return operate


def _install_operators() -> None:
    for name, ufunc in _BINARY.items():
        _install_binary(name, ufunc)
    _install_binary("pow", _power)
    for name, ufunc in _COMPARE.items():
        setattr(Traced, f"__{name}__", lambda self, other, f=ufunc: f(self, other))
    for name, ufunc in _UNARY.items():
        setattr(Traced, f"__{name}__", lambda self, f=ufunc: f(self))
    setattr(Traced, "__divmod__", _divmod)  # noqa: B010  # mypy knows only declared attributes
    setattr(Traced, "__rdivmod__", lambda self, other: _divmod(other, self))  # noqa: B010


def _divmod(one: Any, other: Any) -> tuple[Any, Any]:
    return one // other, one % other


def _install_binary(name: str, function: Callable[..., Any]) -> None:
    setattr(Traced, f"__{name}__", lambda self, other: function(self, other))
    setattr(Traced, f"__r{name}__", lambda self, other: function(other, self))
    setattr(Traced, f"__i{name}__", _in_place(function))


def _install_methods() -> None:
    for name in _METHODS.split():
        function = getattr(np, name)
        setattr(Traced, name, _method(name, function))


def _method(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    method.__name__, method.__doc__ = name, f"As numpy.{name}."
    return method


def _shape_arguments(args: tuple[Any, ...]) -> Any:
    """`x.reshape(2, 3)` and `x.reshape((2, 3))` mean the same."""
    return args[0] if len(args) == 1 else args


def _reshape(self: Traced, *shape: Any, order: str = "C", copy: bool | None = None) -> Any:
    return np.reshape(self, _shape_arguments(shape), order=order)  # type: ignore[call-overload]


def _transpose(self: Traced, *axes: Any) -> Any:
    return np.transpose(self, None if axes in ((), (None,)) else _shape_arguments(axes))


def _dot(self: Traced, b: Any, out: Any = None) -> Any:
    return np.dot(self, b) if out is None else np.dot(self, b, out=out)


def _flatten(self: Traced, order: str = "C") -> Any:
    return np.ravel(self, order=order).copy()  # type: ignore[call-overload]


def _conj(self: Traced) -> Any:
    return wrap(self.tape, apply(ELEMENTWISE[np.positive], self).node)


def _compress(self: Traced, condition: Any, axis: Any = None) -> Any:
    return np.compress(condition, self, axis=axis)


def _sort(self: Traced, axis: int = -1, **_: Any) -> None:
    ordered: Any = np.sort(self, axis=axis)
    self.assign(ordered)


def _partition(self: Traced, kth: Any, axis: int = -1, **_: Any) -> None:
    ordered: Any = np.partition(self, kth, axis=axis)
    self.assign(ordered)


def _choose(self: Traced, choices: Any, out: Any = None, mode: str = "raise") -> Any:
    return np.choose(self, choices, out=out, mode=mode)  # type: ignore[call-overload]


def _to_device(self: Traced, device: Any, /, *, stream: Any = None) -> Any:
    if device != "cpu" or stream is not None:
        raise ValueError(f"Unsupported device: {device!r}")
    return self


def _tobytes(self: Traced, *_: Any, **__: Any) -> Any:
    self.tape.refuse("a traced array is turned into bytes", "keep files and hashes out of the loss")


def install() -> None:
    """Give `Traced` its operators and methods."""
    _install_operators()
    _install_methods()
    for name, method in {
        "reshape": _reshape,
        "transpose": _transpose,
        "dot": _dot,
        "flatten": _flatten,
        "conj": _conj,
        "conjugate": _conj,
        "compress": _compress,
        "sort": _sort,
        "partition": _partition,
        "choose": _choose,
        "to_device": _to_device,
        "tobytes": _tobytes,
    }.items():
        setattr(Traced, name, method)


install()
