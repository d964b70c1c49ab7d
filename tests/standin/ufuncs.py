"""CuPy's ufuncs: their loops, their casts, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arrays import (
    as_cupy,
    check_device,
    is_scalar,
    ndarray,
    new_array,
    share_bounds,
    to_host,
)
from .machine import machine
from .recorded import RECORDED

_WEAK = (int, float, complex)
_KINDS = {"b": 0, "u": 1, "i": 1, "f": 2, "c": 3}
_UNSAFE = {"sign"}


class ufunc:  # noqa: N801
    """`cupy.ufunc`."""

    def __init__(self, name: str) -> None:
        self.name = f"cupy_{name}"
        self.__name__ = name
        self._function = getattr(np, name)
        self.types = RECORDED["ufuncs"][name]
        first, last = self.types[0].split("->")
        self.nin, self.nout = len(first), len(last)
        self.nargs = self.nin + self.nout

    def __repr__(self) -> str:
        return f"<ufunc '{self.name}'>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for arg in args:
            if hasattr(arg, "__cupy_override_elementwise_kernel__"):
                return arg.__cupy_override_elementwise_kernel__(self, *args, **kwargs)
        out = kwargs.pop("out", None)
        where = kwargs.pop("_where", None)
        dtype = kwargs.pop("dtype", None)
        casting = kwargs.pop("casting", "same_kind")
        if kwargs:
            raise TypeError(f"Wrong arguments {kwargs}")
        if not self.nin <= len(args) <= self.nargs:
            raise TypeError(f"Wrong number of arguments for {self.name!r}.")
        if where is not None:
            raise NotImplementedError("the stand-in has no `where` for ufuncs, as NumPy has")
        outs = _outputs(args[self.nin :], out, self.nout)
        inputs = [_operand(arg) for arg in args[: self.nin]]
        for given in outs:
            if given is not None:
                _operand(given)
        return self._run(inputs, outs, dtype, casting)

    def _run(self, inputs: list[Any], outs: list[Any], dtype: Any, casting: str) -> Any:
        given = [one for one in outs if one is not None]
        shape = np.broadcast_shapes(
            *[one.shape for one in [*inputs, *given] if isinstance(one, ndarray)]
        )
        takes, gives = self._loop(inputs, dtype)
        hosts = [_cast(one, to, given) for one, to in zip(inputs, takes, strict=True)]
        machine().launch(self.__name__)
        results = []
        for target, kind in zip(outs + [None] * (self.nout - len(outs)), gives, strict=True):
            results.append(_target(target, shape, kind, casting))
        with np.errstate(all="ignore"):
            values = self._function(*hosts)
        for result, value in zip(results, values if self.nout > 1 else (values,), strict=True):
            np.copyto(result._host, value, casting="unsafe")
        return results[0] if self.nout == 1 else tuple(results)

    def _loop(self, inputs: list[Any], dtype: Any) -> tuple[str, str]:
        """Return the types of the first loop that takes the inputs, as CuPy looks for it."""
        if dtype is not None:
            wanted = np.dtype(dtype)
            for takes, gives in self._loops():
                if all(np.dtype(one) == wanted for one in gives):
                    return takes, gives
            raise TypeError(f"Wrong type ({wanted}) of arguments for {self.name}")
        kinds = [_kind(one) for one in inputs]
        weak = [type(one) if type(one) in _WEAK else None for one in inputs]
        scalars = [_KINDS[k.kind] for k, w in zip(kinds, weak, strict=True) if w]
        others = [_KINDS[k.kind] for k, w in zip(kinds, weak, strict=True) if not w]
        if not scalars or not others or max(others) < max(scalars):
            weak = [None] * len(inputs)
        for takes, gives in self._loops():
            if all(map(_fits, kinds, weak, takes)):
                return takes, gives
        raise TypeError(f"Wrong type ({tuple(kinds)}) of arguments for {self.name}")

    def _loops(self) -> Any:
        return (tuple(loop.split("->")) for loop in self.types)

    def outer(self, a: Any, b: Any, **kwargs: Any) -> Any:
        a, b = as_cupy(a), as_cupy(b)
        return self(a.reshape(a.shape + (1,) * b.ndim), b.reshape((1,) * a.ndim + b.shape))

    def at(self, a: Any, indices: Any, b: Any = None) -> None:
        if self.__name__ not in RECORDED["at"]:
            raise NotImplementedError(f"`{self.name}.at` is not supported yet")
        a._scatter(self._function, self.__name__, indices, b)

    def reduce(
        self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None, keepdims: Any = False
    ) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.reduce` is not supported yet")
        method = array.sum if self.__name__ == "add" else array.prod
        return method(axis, dtype, out, keepdims)

    def accumulate(self, array: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"`{self.name}.accumulate` is not supported yet")
        method = array.cumsum if self.__name__ == "add" else array.cumprod
        return method(axis, dtype, out)


def _outputs(positional: tuple[Any, ...], out: Any, count: int) -> list[Any]:
    if out is None:
        return list(positional)
    if positional:
        raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
    if isinstance(out, tuple):
        if len(out) != count:
            raise ValueError("The 'out' tuple must have exactly one entry per ufunc output")
        return list(out)
    if count != 1:
        raise ValueError("'out' must be a tuple of arrays")
    return [out]


def _operand(arg: Any) -> Any:
    """Let arrays of the current device and scalars pass."""
    if hasattr(arg, "__cupy_get_ndarray__"):
        arg = arg.__cupy_get_ndarray__()
    if isinstance(arg, ndarray):
        check_device(arg)
        return arg
    if not is_scalar(arg):
        raise TypeError(f"Unsupported type {type(arg)}")
    return arg


def _kind(operand: Any) -> np.dtype[Any]:
    if isinstance(operand, ndarray):
        return operand.dtype
    return np.asarray(operand).dtype


def _fits(kind: np.dtype[Any], weak: Any, wanted: str) -> bool:
    to = np.dtype(wanted)
    if np.can_cast(kind, to):
        return True
    if weak is None:
        return False
    order = _KINDS[np.asarray(weak(0)).dtype.kind]
    return order <= _KINDS.get(to.kind, -1)


def _cast(operand: Any, to: str, outs: list[Any]) -> Any:
    if not isinstance(operand, ndarray):
        return np.asarray(operand).astype(to)
    overlaps = any(one is not operand and share_bounds(one, operand) for one in outs)
    return operand._host.astype(to, copy=overlaps)


def _target(target: Any, shape: tuple[int, ...], kind: str, casting: Any) -> ndarray:
    if target is None:
        return new_array(np.empty(shape, kind))
    if not isinstance(target, ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    if target.shape != shape:
        raise ValueError("Out shape is mismatched")
    if not np.can_cast(np.dtype(kind), target.dtype, casting):
        raise TypeError(
            f"output operand cannot be cast from {np.dtype(kind)!r} to {target.dtype!r} according "
            f"to the rule {casting!r}"
        )
    return target


UFUNCS = {
    name: ufunc(name)
    for name in RECORDED["ufuncs"]
    if isinstance(getattr(np, name, None), np.ufunc)
}


def call(name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a ufunc by name."""
    return UFUNCS[name](*args, **kwargs)


__all__ = ["UFUNCS", "call", "to_host", "ufunc"]
