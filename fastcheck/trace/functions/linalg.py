"""numpy.linalg: norms by their formulae; decompositions and solvers copy by copy.

A decomposition has no rule of its own: NumPy's routine is called for every copy, as the user's loss
would call it. One with several results is one primitive a result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastcheck.trace.functions.common import apply, axis_tuple, lift, refuse, tape_of
from fastcheck.trace.functions.contraction import contract_vectors, matmul, outer, tensordot
from fastcheck.trace.functions.indexing import diagonal, trace
from fastcheck.trace.functions.shape import swapaxes
from fastcheck.trace.graph import Primitive
from fastcheck.trace.primitives import discrete_function, opaque_function
from fastcheck.trace.registry import named, traced
from fastcheck.trace.traced import Traced

_SOLVE = opaque_function("solve", np.linalg.solve)
_INV = opaque_function("inv", np.linalg.inv)
_DET = opaque_function("det", np.linalg.det)
_CHOLESKY = opaque_function("cholesky", np.linalg.cholesky)
_PINV = opaque_function("pinv", np.linalg.pinv)
_TENSORSOLVE = opaque_function("tensorsolve", np.linalg.tensorsolve)
_TENSORINV = opaque_function("tensorinv", np.linalg.tensorinv)
_EIGVALSH = opaque_function("eigvalsh", np.linalg.eigvalsh)
_SVDVALS = opaque_function("svdvals", lambda x: np.linalg.svd(x, compute_uv=False))
_RANK = discrete_function("matrix_rank", np.linalg.matrix_rank)

traced(np.linalg.solve)(lambda a, b: apply(_SOLVE, a, b))
traced(np.linalg.inv)(lambda a: apply(_INV, a))
traced(np.linalg.det)(lambda a: apply(_DET, a))
traced(np.linalg.cholesky)(lambda a, /, **kwargs: apply(_CHOLESKY, a, **kwargs))
traced(np.linalg.pinv)(lambda a, *args, **kwargs: apply(_called(_PINV, args), a, **kwargs))
traced(np.linalg.tensorsolve)(lambda a, b, axes=None: apply(_TENSORSOLVE, a, b, axes=axes))
traced(np.linalg.tensorinv)(lambda a, ind=2: apply(_TENSORINV, a, ind=ind))
traced(np.linalg.eigvalsh)(lambda a, UPLO="L": apply(_EIGVALSH, a, UPLO=UPLO))
traced(np.linalg.matrix_rank)(lambda A, *args, **kwargs: apply(_called(_RANK, args), A, **kwargs))


def _called(primitive: Primitive, args: tuple[Any, ...]) -> Primitive:
    """The primitive with the positional options that follow the array."""
    if not args:
        return primitive
    evaluate = primitive.evaluate
    return Primitive(
        primitive.name, lambda x, **kwargs: evaluate(x, *args, **kwargs), primitive.discrete
    )


def _several(
    function: Callable[..., Any], names: str, discrete: str = ""
) -> Callable[..., list[Traced]]:
    """Return a function that gives every result of `function` by a primitive of its own."""

    def result(k: int) -> Callable[..., Any]:
        return lambda *operands, **params: np.asarray(function(*operands, **params)[k])[()]

    primitives = [
        (discrete_function if name in discrete.split() else opaque_function)(name, result(k))
        for k, name in enumerate(names.split())
    ]
    return lambda *operands, **params: [apply(one, *operands, **params) for one in primitives]


_QR = _several(np.linalg.qr, "qr_q qr_r")
_EIGH = _several(np.linalg.eigh, "eigh_values eigh_vectors")
_SVD = _several(np.linalg.svd, "svd_u svd_s svd_vh")
_SLOGDET = _several(np.linalg.slogdet, "slogdet_sign slogdet", discrete="slogdet_sign")
_LSTSQ = _several(
    np.linalg.lstsq, "lstsq lstsq_residuals lstsq_rank lstsq_singular", discrete="lstsq_rank"
)


def _like(function: Callable[..., Any], parts: list[Traced]) -> Any:
    """Name the results as NumPy 2 does (`.Q`, `.eigenvalues`); NumPy 1 gives tuples from some."""
    kind = type(function(np.eye(1)))
    return kind(*parts) if hasattr(kind, "_fields") else tuple(parts)


@traced(np.linalg.qr)
def qr(a: Any, mode: str = "reduced") -> Any:
    if mode not in ("reduced", "complete"):
        refuse(f"np.linalg.qr with mode={mode!r}", "write np.linalg.qr(a)[1] for its R", a)
    return _like(np.linalg.qr, _QR(a, mode=mode))


@traced(np.linalg.eigh)
def eigh(a: Any, UPLO: str = "L") -> Any:
    return _like(np.linalg.eigh, _EIGH(a, UPLO=UPLO))


@traced(np.linalg.svd)
def svd(
    a: Any, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> Any:
    if hermitian:
        refuse("np.linalg.svd with hermitian=True", "write np.linalg.eigh", a)
    if not compute_uv:
        return apply(_SVDVALS, a)
    return _like(np.linalg.svd, _SVD(a, full_matrices=full_matrices))


@traced(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    return _like(np.linalg.slogdet, _SLOGDET(a))


@traced(np.linalg.lstsq)
def lstsq(a: Any, b: Any, rcond: Any = None) -> Any:
    return tuple(_LSTSQ(a, b, rcond=rcond))


@traced(np.linalg.matrix_power)
def matrix_power(a: Any, n: int) -> Any:
    a = lift(a, tape_of(a))
    if n < 0:
        a, n = np.linalg.inv(a), -n
    if n == 0:
        return lift(np.broadcast_to(np.eye(a.shape[-1], dtype=a.dtype), a.shape), a.tape).copy()
    power: Any = None
    while n:
        n, odd = divmod(n, 2)
        if odd:
            power = a if power is None else np.matmul(power, a)
        if n:
            a = np.matmul(a, a)
    return power


@traced(np.linalg.cond)
def cond(x: Any, p: Any = None) -> Any:
    if p in (None, 2, -2):
        values: Any = apply(_SVDVALS, x)
        largest, smallest = values[..., 0], values[..., -1]
        return smallest / largest if p == -2 else largest / smallest
    return norm(x, p, (-2, -1)) * norm(np.linalg.inv(x), p, (-2, -1))


@traced(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = lift(x, tape_of(x))
    if axis is None and ord is None:
        return np.sqrt(np.sum(np.square(x), keepdims=keepdims))
    axes = axis_tuple(axis, x.ndim)
    if len(axes) == 1:
        return _vector_norm(x, ord, axes, keepdims)
    if len(axes) != 2:
        raise ValueError("Improper number of dimensions to norm.")
    return _matrix_norm(x, ord, axes, keepdims)


def _vector_norm(x: Any, ord: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    if ord in (None, 2):
        return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))
    if ord == 0:
        return np.sum(x != 0, axis=axis, keepdims=keepdims).astype(x.dtype)
    if ord == 1:
        return np.sum(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == np.inf:
        return np.max(np.abs(x), axis=axis, keepdims=keepdims)
    if ord == -np.inf:
        return np.min(np.abs(x), axis=axis, keepdims=keepdims)
    if isinstance(ord, str):
        raise ValueError(f"Invalid norm order '{ord}' for vectors")
    return np.sum(np.abs(x) ** ord, axis=axis, keepdims=keepdims) ** (1 / ord)


def _matrix_norm(x: Any, ord: Any, axes: tuple[int, ...], keepdims: bool) -> Any:
    row, column = axes
    if ord in (None, "fro", "f"):
        return np.sqrt(np.sum(np.square(x), axis=axes, keepdims=keepdims))
    if ord in (1, -1, np.inf, -np.inf):
        summed, other = (row, column) if abs(ord) == 1 else (column, row)
        sums = np.sum(np.abs(x), axis=summed, keepdims=True)
        size = (np.max if ord > 0 else np.min)(sums, axis=other, keepdims=True)
    elif ord in (2, -2, "nuc"):
        values = apply(_SVDVALS, np.moveaxis(x, axes, (-2, -1)))
        chosen = np.sum(values, axis=-1) if ord == "nuc" else values[..., 0 if ord == 2 else -1]
        size = np.expand_dims(chosen, axes)
    else:
        raise ValueError("Invalid norm order for matrices.")
    return size if keepdims else np.squeeze(size, axis=axes)


def vector_norm(x: Any, /, *, axis: Any = None, keepdims: bool = False, ord: Any = 2) -> Any:
    return _vector_norm(x, ord, axis_tuple(axis, x.ndim), keepdims)


# The array-API standard has these in `linalg`, as NumPy 2 does.
_OF_THE_STANDARD: dict[str, Callable[..., Any]] = {
    "linalg.vector_norm": vector_norm,
    "linalg.matrix_norm": lambda x, /, *, keepdims=False, ord="fro": norm(
        x, ord, (-2, -1), keepdims
    ),
    "linalg.svdvals": lambda x, /: apply(_SVDVALS, x),
    "linalg.matmul": lambda x1, x2, /: matmul(x1, x2),
    "linalg.outer": lambda x1, x2, /: outer(x1, x2),
    "linalg.tensordot": lambda x1, x2, /, *, axes=2: tensordot(x1, x2, axes),
    "linalg.vecdot": lambda x1, x2, /, *, axis=-1: contract_vectors(x1, x2, axis),
    "linalg.matrix_transpose": lambda x, /: swapaxes(x, -1, -2),
    "linalg.diagonal": lambda x, /, *, offset=0: diagonal(x, offset, -2, -1),
    "linalg.trace": lambda x, /, *, offset=0, dtype=None: trace(x, offset, -2, -1, dtype),
}
for _name, _rule in _OF_THE_STANDARD.items():
    traced(*named(_name))(_rule)
