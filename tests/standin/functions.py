"""CuPy's functions, each with CuPy's own parameters, done by NumPy's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .arrays import (
    as_cupy,
    check_device,
    into,
    ndarray,
    new_array,
    strict,
    to_host,
    view_of,
    wrapped,
)
from .machine import machine
from .recorded import RECORDED, bound, signature

FUNCTIONS: dict[str, Callable[..., Any]] = {}
BUILT_IN: dict[str, Callable[..., Any]] = {
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis]
}
"""Functions whose parameters CuPy does not tell."""

_LIKE_NUMPY = """
all allclose amax amin any argmax argmin argsort array_equal array_split atleast_1d atleast_2d
average broadcast_arrays clip column_stack concatenate copy count_nonzero cross cumprod cumsum diag
diagonal diff dstack expand_dims flip fliplr flipud hstack inner isclose kron linspace max mean
median meshgrid min moveaxis nan_to_num nanmax nanmin nansum outer pad prod ravel repeat reshape
roll rollaxis rot90 searchsorted sort split squeeze stack std sum swapaxes tensordot tile trace
transpose tri tril triu vander vdot var vsplit vstack
""".split()
_MAKERS = "arange empty eye full identity indices ones tri zeros".split()
_PLAIN = "broadcast_shapes can_cast issubdtype iterable ndim result_type shape".split()
_LIKES = "empty_like full_like ones_like zeros_like".split()
_NAMES = {"axis1", "axis2", "axes", "axis", "shape", "dtype", "order"}


def _form(name: str) -> inspect.Signature:
    return signature(RECORDED["functions"][name])


def register(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Offer a function under a name, with the parameters that CuPy's function has."""
    form = _form(name)

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        def offered(*args: Any, **kwargs: Any) -> Any:
            bound(name, form, args, kwargs)
            return function(*args, **kwargs)

        offered.__name__ = name
        offered.__signature__ = form  # type: ignore[attr-defined]
        FUNCTIONS[name] = offered
        return function

    return add


def _like_numpy(name: str) -> None:
    form, numpys = _form(name), getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        given = bound(name, form, args, kwargs)
        out = given.arguments.pop("out", None)
        arrays = list(_arrays(given.args))
        if given.arguments.get("axis") == () and name not in ("expand_dims", "squeeze"):
            raise NotImplementedError("a reduction over no axis")
        if name in ("stack", "concatenate") and not all(
            isinstance(one, ndarray) for one in args[0]
        ):
            strict("a", next(one for one in args[0] if not isinstance(one, ndarray)))
        if name == "expand_dims" and isinstance(given.arguments["axis"], list):
            raise TypeError("Argument 'axis' has incorrect type (expected tuple, got list)")
        hosts = [to_host(one) for one in given.args]
        with np.errstate(all="ignore"):
            host = numpys(*hosts, **{k: to_host(v) for k, v in given.kwargs.items()})
        result = wrapped(host, *arrays)
        return result if out is None else into(out, result)

    register(name)(function)


def _arrays(args: Any) -> Any:
    for one in args:
        if isinstance(one, ndarray):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from _arrays(one)


def _maker(name: str) -> None:
    numpys = getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        for one in args:
            if isinstance(one, ndarray):
                raise TypeError("a device array where numbers on the host are asked for")
        machine().launch(name)
        return new_array(numpys(*args, **kwargs))

    register(name)(function)


def _like(name: str) -> None:
    numpys = getattr(np, name)

    def function(a: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(a, ndarray):
            raise AttributeError(f"{type(a).__name__!r} object has no attribute 'dtype'")
        machine().launch(name)
        return new_array(numpys(to_host(a), *args, **kwargs))

    register(name)(function)


def _plain(name: str) -> None:
    numpys = getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        return numpys(*[one._host if isinstance(one, ndarray) else one for one in args], **kwargs)

    register(name)(function)


for _name in _LIKE_NUMPY:
    _like_numpy(_name)
for _name in _MAKERS:
    _maker(_name)
for _name in _LIKES:
    _like(_name)
for _name in _PLAIN:
    _plain(_name)


@register("asarray")
def _asarray(
    a: Any, dtype: Any = None, order: Any = None, *, copy: Any = None, blocking: bool = False
) -> ndarray:
    return _array(a, dtype, copy=bool(copy), order=order or "K")


@register("array")
def _array(
    obj: Any,
    dtype: Any = None,
    copy: Any = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    *,
    blocking: bool = False,
) -> ndarray:
    if isinstance(obj, ndarray):
        check_device(obj)
        if not copy and (dtype is None or np.dtype(dtype) == obj.dtype):
            return obj
        machine().launch("array")
        return new_array(np.array(obj._host, dtype, order=order, ndmin=ndmin))
    if isinstance(obj, (list, tuple)) and obj and isinstance(obj[0], ndarray):
        return FUNCTIONS["stack"](list(obj))
    host = np.array(obj, dtype, order=order, ndmin=ndmin)
    return as_cupy(host)


@register("ascontiguousarray")
def _ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    host = strict("a", a)._host
    if host.flags.c_contiguous and (dtype is None or np.dtype(dtype) == host.dtype):
        return a  # type: ignore[no-any-return]
    machine().launch("ascontiguousarray")
    return new_array(np.array(host, dtype, order="C"))


@register("asnumpy")
def _asnumpy(
    a: Any, stream: Any = None, order: str = "C", out: Any = None, *, blocking: bool = True
) -> Any:
    if isinstance(a, ndarray):
        return a.get(stream=stream, order=order, out=out, blocking=blocking)
    return np.asarray(a, order=order)


@register("get_array_module")
def _get_array_module(*args: Any) -> Any:
    import cupy

    return cupy if any(isinstance(one, ndarray) for one in args) else np


@register("broadcast_to")
def _broadcast_to(array: Any, shape: Any) -> ndarray:
    """A view, which can be written to: there are no read-only arrays on a GPU."""
    host = strict("array", array)._host
    spread = np.broadcast_to(host, shape)
    return view_of(array, np.lib.stride_tricks.as_strided(host, spread.shape, spread.strides))


@register("where")
def _where(condition: Any, x: Any = None, y: Any = None) -> Any:
    if (x is None) != (y is None):
        raise ValueError("Must provide both 'x' and 'y' or neither.")
    if x is None:
        return condition.nonzero()
    condition = strict("condition", condition)
    from .ufuncs import call

    # CuPy's where is an elementwise kernel, with the types of a sum of the two.
    for one in (x, y):
        if isinstance(one, np.ndarray):
            raise TypeError(f"Unsupported type {type(one)}")
    kind = call("add", x, y).dtype if not _both_masks(x, y) else np.dtype(bool)
    host = np.where(condition._host.astype(bool), to_host(x), to_host(y)).astype(kind)
    return new_array(host)


def _both_masks(x: Any, y: Any) -> bool:
    return all(
        one.dtype == bool if isinstance(one, ndarray) else isinstance(one, (bool, np.bool_))
        for one in (x, y)
    )


@register("take")
def _take(a: Any, indices: Any, axis: Any = None, out: Any = None) -> ndarray:
    return strict("a", a).take(indices, axis, out)


@register("take_along_axis")
def _take_along_axis(a: Any, indices: Any, axis: Any) -> ndarray:
    a, indices = strict("a", a), strict("indices", indices)
    if indices.dtype.kind not in "iu":
        raise IndexError("`indices` must be an integer array")
    if a.ndim != indices.ndim:
        raise ValueError("`indices` and `a` must have the same number of dimensions")
    machine().launch("take_along_axis")
    return new_array(np.take_along_axis(a._host, indices._host, axis))


@register("nonzero")
def _nonzero(a: Any) -> Any:
    return strict("a", a).nonzero()


@register("dot")
def _dot(a: Any, b: Any, out: Any = None) -> Any:
    if out is not None:
        strict("out", out)
    return into_or_new(out, np.dot(strict("a", a)._host, strict("b", b)._host))


@register("matmul")
def _matmul(
    *args: Any,
    axes: Any = None,
    axis: Any = None,
    keepdims: bool = False,
    casting: str = "same_kind",
    dtype: Any = None,
    signature: Any = None,
    order: str = "K",
    out: Any = None,
) -> Any:
    a, b, *rest = args
    out = rest[0] if rest else out
    if out is not None and not isinstance(out, ndarray):
        raise TypeError("`out` must be a tuple or `cupy.ndarray`")
    a, b = strict("a", a), strict("b", b)
    if axes is not None or axis is not None or keepdims or signature is not None:
        raise NotImplementedError("the stand-in multiplies the last two axes only")
    return into_or_new(out, np.matmul(a._host, b._host, dtype=dtype))


def into_or_new(out: Any, host: Any) -> ndarray:
    """Return a product as an array of its own, or in the one given for it."""
    machine().launch("matmul")
    result = new_array(host)
    return result if out is None else into(out, result)


@register("einsum")
def _einsum(*operands: Any, **kwargs: Any) -> ndarray:
    dtype, optimize = kwargs.pop("dtype", None), kwargs.pop("optimize", False)
    if kwargs:
        raise TypeError(f"Did not understand the following kwargs: {list(kwargs)}")
    every = list(operands)
    places = range(1, len(every)) if isinstance(every[0], str) else range(0, len(every) - 1, 2)
    for place in places:
        every[place] = as_cupy(every[place])
    arrays = [every[place] for place in places]
    for one in arrays:
        check_device(one)
    hosts = [one._host if isinstance(one, ndarray) else one for one in every]
    kind = np.result_type(*[one.dtype for one in arrays]) if dtype is None else dtype
    return wrapped(np.einsum(*hosts, optimize=optimize).astype(kind, copy=False), *arrays)


@register("copyto")
def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = None) -> None:
    if isinstance(src, np.ndarray):
        raise ValueError("non-scalar numpy.ndarray cannot be used for copyto")
    machine().launch("copyto")
    chosen = True if where is None else to_host(where)
    np.copyto(strict("dst", dst)._host, to_host(src), casting=casting, where=chosen)


@register("may_share_memory")
def _may_share_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return bool(np.may_share_memory(to_host(a), to_host(b)))


@register("shares_memory")
def _shares_memory(a: Any, b: Any, max_work: Any = None) -> bool:
    return bool(np.shares_memory(to_host(a), to_host(b)))


@register("unravel_index")
def _unravel_index(indices: Any, dims: Any, order: str = "C") -> Any:
    machine().launch("unravel_index")
    return tuple(map(new_array, np.unravel_index(strict("indices", indices)._host, dims, order)))


@register("unique")
def _unique(ar: Any, *args: Any, **kwargs: Any) -> Any:
    machine().synchronise()
    return wrapped(np.unique(strict("ar", ar)._host, *args, **kwargs))


@register("isin")
def _isin(element: Any, test_elements: Any, *args: Any, **kwargs: Any) -> Any:
    return new_array(np.isin(strict("a", element)._host, strict("b", test_elements)._host))


for _new, _old in {"permute_dims": "transpose", "concat": "concatenate", "round": "around"}.items():
    if _old in FUNCTIONS:
        FUNCTIONS[_new] = FUNCTIONS[_old]
