"""`cupy.ndarray`: an array that gives nothing to NumPy unless it is asked to."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from .machine import Memory, machine
from .recorded import RECORDED, bound, signature

_BASE = "cupy._core.core._ndarray_base"
_SCALARS = (bool, int, float, complex, np.generic)


def is_scalar(value: Any) -> bool:
    """Whether CuPy's kernels take `value` as a scalar."""
    return type(value) in (bool, int, float, complex) or isinstance(value, np.generic)


class Flags:
    """Memory layout; there is no `writeable`, because there are no read-only arrays."""

    def __init__(self, host: np.ndarray[Any, Any], owns: bool) -> None:
        self.c_contiguous = host.flags.c_contiguous
        self.f_contiguous = host.flags.f_contiguous
        self.owndata = owns
        self.fnc = self.f_contiguous and not self.c_contiguous
        self.forc = self.f_contiguous or self.c_contiguous


class DataPointer:
    """`cupy.cuda.MemoryPointer`, as far as it can be asked."""

    def __init__(self, array: ndarray) -> None:
        self.ptr = array._host.__array_interface__["data"][0]
        self.mem = array._memory
        self.device_id = array._memory.device


class ndarray:  # noqa: N801
    """An array on a pretended device.

    `_host` holds the numbers, `_memory` the allocation, which views share.
    """

    __array_priority__ = 100
    __slots__ = ("__weakref__", "_host", "_memory", "base")

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        if memptr is not None or strides is not None:
            raise NotImplementedError("the stand-in makes arrays in memory of their own only")
        host = np.empty(shape, dtype, order)
        self._host = host
        self._memory = Memory(machine(), machine().current, host.nbytes)
        self.base: ndarray | None = None

    # What an array is.

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: Flags(self._host, self.base is None))
    data = property(lambda self: DataPointer(self))
    T = property(lambda self: view_of(self, self._host.T))
    real = property(lambda self: view_of(self, self._host.real))

    @property
    def device(self) -> Any:
        from .cuda import Device

        return Device(self._memory.device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.data.ptr, False),
            "strides": None if self._host.flags.c_contiguous else self.strides,
            "version": 3,
        }

    # What waits for the device.

    def get(
        self, stream: Any = None, order: str = "C", out: Any = None, blocking: Any = True
    ) -> Any:
        if out is not None:
            if not isinstance(out, np.ndarray):
                raise TypeError("Only numpy.ndarray can be obtained from cupy.ndarray")
            if self.dtype != out.dtype or self.shape != out.shape:
                raise TypeError("the array given by `out` has another dtype or shape")
        if blocking:
            machine().synchronise()
        if out is None:
            return np.array(self._host, order=order)
        out[...] = self._host
        return out

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def __float__(self) -> float:
        return float(_only(self))

    def __int__(self) -> int:
        return int(_only(self))

    def __complex__(self) -> complex:
        return complex(_only(self))

    def __bool__(self) -> bool:
        if self.size == 0:
            warnings.warn(
                "The truth value of an empty array is ambiguous.", DeprecationWarning, stacklevel=2
            )
            return False
        if self.size == 1:
            return bool(self.get())
        raise ValueError(
            "The truth value of an array with more than one element is ambiguous. "
            "Use a.any() or a.all()"
        )

    def __repr__(self) -> str:
        return repr(self.get())

    def __str__(self) -> str:
        return str(self.get())

    def __format__(self, how: str) -> str:
        return format(self.get(), how)

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Any:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[place] for place in range(len(self)))

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. Please use `.get()` to "
            "construct a NumPy array explicitly."
        )

    __hash__ = None  # type: ignore[assignment]

    # What NumPy's functions and operators do with it.

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from .ufuncs import UFUNCS

        given = inputs
        if "out" in kwargs:
            (out,) = kwargs["out"]
            given = (*inputs, out)
            kwargs["out"] = out
        if method not in ("__call__", "outer", "at", "reduce", "accumulate", "reduceat"):
            return NotImplemented
        function: Any = _matmul if ufunc.__name__ == "matmul" else UFUNCS.get(ufunc.__name__)
        if function is None:
            return NotImplemented
        if method != "__call__":
            function = getattr(function, method)
        for one in given:
            foreign = not isinstance(one, (ndarray, np.ndarray, *_SCALARS))
            if foreign and not hasattr(one, "__cupy_get_ndarray__"):
                return NotImplemented
        return function(*inputs, **kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from .functions import BUILT_IN, FUNCTIONS

        mine = (FUNCTIONS | BUILT_IN).get(func.__name__)
        if mine is None or any(not issubclass(one, (ndarray, np.ndarray)) for one in types):
            return NotImplemented
        return mine(*args, **kwargs)

    # Indexing.

    def __getitem__(self, index: Any) -> ndarray:
        parts, basic, masks = _index(self, index)
        taken = self._host[parts]
        if basic:
            return view_of(self, self._host[(*parts, ...)] if not taken.ndim else taken)
        machine().launch("getitem")
        if masks:
            machine().synchronise()  # the host has to know how many elements there are
        return new_array(taken)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._scatter(None, "setitem", index, value)

    def _scatter(self, function: Any, name: str, index: Any, value: Any) -> None:
        parts, basic, masks = _index(self, index)
        machine().launch(name)
        if masks:
            machine().synchronise()
        if isinstance(value, ndarray):
            check_device(value)
            source = value._host
        elif is_scalar(value):
            source = np.asarray(value)
            machine().counts["uploads"] += not basic
        elif isinstance(value, np.ndarray) and basic:
            raise ValueError("non-scalar numpy.ndarray cannot be used for fill")
        else:
            raise TypeError(f"Unsupported type {type(value)} in an assignment")
        if name == "subtract" and self.dtype.kind == "f":
            raise TypeError("cupy.subtract.at only supports int32, uint32, as data type")
        if function is None:
            _refuse_repeated(parts, self.shape)
            self._host[parts] = source.astype(self.dtype)
        else:
            function.at(self._host, parts, source.astype(self.dtype))

    # Methods with the same sense as NumPy's.

    def dot(self, b: Any, out: Any = None) -> Any:
        from .functions import FUNCTIONS

        return FUNCTIONS["dot"](self, b, out)

    def reshape(self, *shape: Any, order: str = "C", copy: Any = None) -> ndarray:
        return wrapped(self._host.reshape(*shape, order=order), self)

    def transpose(self, *axes: Any) -> ndarray:
        return view_of(self, self._host.transpose(*axes))

    def fill(self, value: Any) -> None:
        if not is_scalar(value):
            raise ValueError(f"non-scalar {type(value)} cannot be used for fill")
        machine().launch("fill")
        self._host.fill(value)

    def set(self, arr: Any, stream: Any = None) -> None:
        if not isinstance(arr, np.ndarray):
            raise TypeError("Only numpy.ndarray can be set to cupy.ndarray")
        if self.dtype != arr.dtype or self.shape != arr.shape:
            raise TypeError("dtype or shape mismatch")
        machine().counts["uploads"] += 1
        self._host[...] = arr

    def astype(
        self, dtype: Any, order: str = "K", casting: Any = None, subok: Any = None, copy: Any = True
    ) -> ndarray:
        if subok:
            raise TypeError("subok is not supported yet")
        if not copy and np.dtype(dtype) == self.dtype:
            return self
        machine().launch("astype")
        with np.errstate(all="ignore"):
            return new_array(self._host.astype(dtype, order=order, casting=casting or "unsafe"))

    def view(self, dtype: Any = None, type: Any = None) -> ndarray:
        return view_of(self, self._host.view() if dtype is None else self._host.view(dtype))

    def nonzero(self) -> tuple[ndarray, ...]:
        if not self.ndim:
            raise ValueError("Calling nonzero on 0d arrays is not allowed.")
        machine().synchronise()
        return tuple(map(new_array, self._host.nonzero()))


ndarray.__module__ = "cupy"


def _only(array: ndarray) -> Any:
    host = array.get()
    return host if host.ndim == 0 else host.item()


def _matmul(*args: Any, **kwargs: Any) -> Any:
    from .functions import FUNCTIONS

    return FUNCTIONS["matmul"](*args, **kwargs)


def _index(array: ndarray, index: Any) -> tuple[Any, bool, bool]:
    """Return the index for the host, whether it gives a view, and whether it holds masks."""
    check_device(array)
    parts, basic, masks = [], True, 0
    for part in index if isinstance(index, tuple) else (index,):
        if part is None or part is Ellipsis or isinstance(part, slice):
            parts.append(part)
        elif np.isscalar(part) and not isinstance(part, (bool, np.bool_)):
            parts.append(int(part))
        else:
            if not isinstance(part, ndarray):
                machine().counts["uploads"] += 1  # CuPy takes lists and NumPy arrays along
                part = as_cupy(part)
            check_device(part)
            if part.dtype.kind not in "biu":
                raise IndexError("arrays used as indices must be of integer or boolean type.")
            basic = False
            masks += part.dtype.kind == "b"
            parts.append(part._host)
    if masks > 1:
        raise IndexError("the stand-in takes one mask in an index, as CuPy does")
    return tuple(parts), basic, bool(masks)


def _refuse_repeated(parts: Any, shape: tuple[int, ...]) -> None:
    """Refuse to write twice to one place: on a GPU nobody knows which write comes last."""
    if any(isinstance(part, np.ndarray) for part in parts):
        places = np.arange(math.prod(shape)).reshape(shape)[parts]
        if len(np.unique(places)) < places.size:
            raise ValueError("two writes to one place: which comes last is undefined on a GPU")


# Making arrays, and looking at them.


def root(host: np.ndarray[Any, Any]) -> Any:
    """Return the NumPy array whose memory `host` views."""
    while isinstance(host.base, np.ndarray):
        host = host.base
    return host


def _raw(host: np.ndarray[Any, Any], memory: Memory, base: ndarray | None) -> ndarray:
    array = object.__new__(ndarray)
    array._host, array._memory, array.base = host, memory, base
    return array


def new_array(host: Any) -> ndarray:
    """Return a device array of its own with these numbers (taken over if nobody else has them)."""
    host = np.asarray(host)
    memory = Memory(machine(), machine().current, host.nbytes)
    if host.base is not None or not host.flags.writeable:
        host = host.copy(order="K")
    array = _raw(host, memory, None)
    if machine().on_array is not None:
        machine().on_array(array)
    return array


def view_of(array: ndarray, host: np.ndarray[Any, Any]) -> ndarray:
    """Return a view of a device array."""
    return _raw(host, array._memory, array if array.base is None else array.base)


def wrapped(result: Any, *sources: Any) -> Any:
    """Return NumPy's result as device arrays: views where it is one of the sources' memory."""
    if isinstance(result, (tuple, list)):
        return type(result)(wrapped(one, *sources) for one in result)
    result = np.asarray(result)
    for source in sources:
        if isinstance(source, ndarray) and root(source._host) is root(result):
            if result is source._host:
                return source
            return view_of(source, result)
    machine().launch("function")
    return new_array(result)


def as_cupy(value: Any) -> ndarray:
    """`cupy.asarray` of one thing."""
    if isinstance(value, ndarray):
        return value
    host = np.array(value)
    if host.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {host.dtype}")
    machine().counts["uploads"] += 1
    return new_array(host)


def check_device(array: ndarray) -> None:
    """Refuse an array of another device than the current one."""
    there, here = array._memory.device, machine().current
    if array._memory.owner is machine() and there != here:
        raise ValueError(
            f"The device where the array resides ({there}) is different from the current device "
            f"({here}). Peer access is unavailable between these devices."
        )


def strict(name: str, value: Any) -> ndarray:
    """Refuse what is no device array, as Cython's typed arguments do."""
    if not isinstance(value, ndarray):
        kind = type(value)
        full = (
            kind.__qualname__
            if kind.__module__ in ("builtins", "__main__")
            else (f"{kind.__module__}.{kind.__qualname__}")
        )
        raise TypeError(f"Argument '{name}' has incorrect type (expected {_BASE}, got {full})")
    check_device(value)
    return value


def to_host(value: Any, name: str = "a") -> Any:
    """Return what NumPy's function is to see of an argument."""
    if isinstance(value, (list, tuple)):
        return type(value)(to_host(one, name) for one in value)
    if isinstance(value, ndarray):
        check_device(value)
        return value._host
    if isinstance(value, np.ndarray):
        strict(name, value)
    return value


def share_bounds(one: ndarray, other: ndarray) -> bool:
    """Whether the memory ranges of two arrays overlap."""
    return bool(np.may_share_memory(one._host, other._host))


# Methods and operators that are made from CuPy's records.


def _method(name: str) -> Any:
    form = signature(RECORDED["methods"][name])

    def method(*args: Any, **kwargs: Any) -> Any:
        arguments = bound(name, form, args, kwargs).arguments
        array, out = arguments.pop("self"), arguments.pop("out", None)
        if name == "take":
            arguments["indices"] = _indices(arguments["indices"])
        if arguments.get("axis") == ():
            raise NotImplementedError("a reduction over no axis")
        values = {key: to_host(value, key) for key, value in arguments.items()}
        with np.errstate(all="ignore"):
            host = getattr(to_host(array), name)(**values)
        result = wrapped(host, array)
        return result if out is None else into(out, result)

    method.__name__ = name
    return method


def into(out: Any, result: ndarray) -> ndarray:
    """Write a result into `out`, which has to fit."""
    if not isinstance(out, ndarray):
        raise TypeError("Output arguments type must be cupy.ndarray")
    if out.shape != result.shape:
        raise ValueError("Out shape is mismatched")
    if not np.can_cast(result.dtype, out.dtype, "same_kind"):
        raise TypeError(f"output cannot be cast from {result.dtype} to {out.dtype}")
    out._host[...] = result._host
    return out


def _indices(indices: Any) -> Any:
    if isinstance(indices, ndarray) or np.isscalar(indices):
        return indices
    return as_cupy(indices)


for _name in (
    "all any argmax argmin argsort clip conj conjugate copy cumprod cumsum diagonal flatten max "
    "mean min prod ravel repeat round squeeze std sum swapaxes take trace var"
).split():
    setattr(ndarray, _name, _method(_name))


def _defers(x: Any, y: Any) -> bool:
    """Whether an operator leaves the work to the other operand."""
    missing = object()
    found = getattr(y, "__array_ufunc__", missing)
    if found is not missing:
        return found is None
    return getattr(x, "__array_priority__", 0) < getattr(y, "__array_priority__", 0)


def _operators(symbol: str, name: str) -> None:
    universal = getattr(np, name)

    def forward(x: Any, y: Any) -> Any:
        if isinstance(y, ndarray):
            return _call(name, x, y)
        return NotImplemented if _defers(x, y) else universal(x, y)

    def backward(y: Any, x: Any) -> Any:
        return NotImplemented if _defers(y, x) else universal(x, y)

    setattr(ndarray, f"__{symbol}__", forward)
    if name not in _COMPARISONS:
        setattr(ndarray, f"__r{symbol}__", backward)
        if symbol != "matmul":
            setattr(ndarray, f"__i{symbol}__", lambda x, y: _call(name, x, y, x))


def _call(name: str, *args: Any) -> Any:
    from .ufuncs import UFUNCS

    return _matmul(*args) if name == "matmul" else UFUNCS[name](*args)


_COMPARISONS = {
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "eq": "equal",
    "ne": "not_equal",
}
_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "power",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "left_shift",
    "rshift": "right_shift",
}
_COMPARISONS = {name: symbol for symbol, name in _COMPARISONS.items()}
for _symbol, _name in _OPERATORS.items():
    _operators(_symbol, _name)
for _name, _symbol in _COMPARISONS.items():
    _operators(_symbol, _name)
for _symbol, _name in {
    "neg": "negative",
    "pos": "positive",
    "abs": "absolute",
    "invert": "invert",
}.items():
    setattr(ndarray, f"__{_symbol}__", lambda x, name=_name: _call(name, x))
ndarray.__hash__ = None  # type: ignore[assignment]
