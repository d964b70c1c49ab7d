"""The array that user code sees while it is traced.

`Traced` is a duck array, not a subclass of ndarray: a subclass slips silently through C code, a
duck array either speaks NumPy's protocols or is refused. It carries the real value at θ, so shapes,
branches and prints come out as they would, and the node of the graph that computes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fastcheck.params.places import imported_cupy
from fastcheck.trace.attributes import ALTERNATIVES, alternative
from fastcheck.trace.graph import Node, Primitive
from fastcheck.trace.memory import Step, Store, laid_out_as, positions, writable
from fastcheck.trace.primitives import (
    BROADCAST,
    CAST,
    INDEX,
    RESHAPE,
    STRUCTURAL,
    TRANSPOSE,
    WHERE,
)
from fastcheck.trace.tape import DEVICE_REMEDY, Converted, Tape, UntraceableAttribute


class Traced:
    """A NumPy array, or scalar, whose every operation is recorded."""

    __slots__ = ("_node", "_seen", "_steps", "_store")
    __array_priority__ = 1000.0

    def __init__(self, store: Store, steps: tuple[Step, ...] = ()) -> None:
        self._store = store
        self._steps = steps
        self._seen = -1
        self._node: Node | None = None

    @property  # type: ignore[misc]  # `isinstance(x, np.ndarray)` has to be as it will be
    def __class__(self) -> type:
        """The type that NumPy would have given, for code that asks.

        CuPy asks too. It takes what claims to be an array of NumPy for one, and refuses it; what is
        neither NumPy's nor its own it leaves to `__array_ufunc__`.
        """
        if self.tape.place is not None:
            return Traced
        return np.ndarray if isinstance(self.node.value, np.ndarray) else type(self.node.value)

    # -- what the graph side needs ----------------------------------------------------------------

    @property
    def tape(self) -> Tape:
        return self._store.tape

    @property
    def node(self) -> Node:
        """The node of the array's present contents."""
        if not self._steps:
            return self._store.node
        if self._node is None or self._seen != self._store.version:
            node = self._store.node
            for primitive, params in self._steps:
                node = self.tape.apply(primitive, node, **params)
            self._node, self._seen = node, self._store.version
        return self._node

    @property
    def value(self) -> Any:
        """The value at θ, as NumPy gave it."""
        return self.node.value

    @property
    def is_scalar(self) -> bool:
        """Whether NumPy would have given a scalar, which cannot be written to."""
        return not self._steps and self._store.is_scalar

    def derive(self, primitive: Primitive, **params: Any) -> Traced:
        """Apply a structural primitive; where NumPy gives a view, so does this."""
        node = self.tape.apply(primitive, self.node, **params)
        if (
            primitive in STRUCTURAL
            and isinstance(node.value, np.ndarray)
            and np.may_share_memory(node.value, self.node.value)
        ):
            view = Traced(self._store, (*self._steps, (primitive, params)))
            view._node, view._seen = node, self._store.version
            return view
        return wrap(self.tape, node)

    def assign(self, value: Traced) -> Traced:
        """Overwrite the whole array, as `out=` and `+=` do: the shape and dtype stay."""
        node = value.node
        if node.shape != self.shape:
            np.broadcast_to(np.empty(node.shape), self.shape)  # raises NumPy's own error
            node = value.tape.apply(BROADCAST, node, shape=self.shape)
        if node.value.dtype != self.dtype:
            if not np.can_cast(node.value.dtype, self.dtype, casting="same_kind"):
                raise TypeError(
                    f"Cannot cast output from dtype {node.value.dtype} to dtype {self.dtype}"
                )
            node = self.tape.apply(CAST, node, dtype=self.dtype)
        if self._steps:
            self._store.write_at(writable(self._store, self._steps), node)
        else:
            self._store.replace(laid_out_as(self.tape, self.value, node))
        return self

    def forbid_writes(self) -> None:
        """Refuse to trace any write from now on: other code holds this memory too."""
        self._store.exported = True

    # -- NumPy's protocols ------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from fastcheck.trace.dispatch import call_ufunc  # the two know each other

        return call_ufunc(self.tape, ufunc, method, inputs, kwargs)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from fastcheck.trace.dispatch import call_function

        return call_function(self.tape, func, args, kwargs)

    def __cupy_override_elementwise_kernel__(self, kernel: Any, *args: Any, **kwargs: Any) -> Any:
        from fastcheck.trace.device_calls import call_kernel

        return call_kernel(self.tape, kernel, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        self.tape.refuse_if_closed()
        if not self.node.constant:
            self.tape.refuse(
                "an array that depends on the parameters is turned into an ordinary one, which "
                f"{'CuPy' if self.tape.place else 'NumPy'} cannot see through",
                "write np.dot(X, W) for X.dot(W) where X is plain data, `net.W = W` for "
                "`net.W[...] = W`, and make arrays that collect results with np.zeros(...) inside "
                "the loss",
                Converted,
            )
        self._store.exported = True
        plain = np.array(self.node.value, dtype=dtype)
        plain.flags.writeable = False
        return plain

    def __array_namespace__(self, *, api_version: str | None = None) -> Any:
        return self.tape.numpy if self.tape.place is None else self.tape.cupy

    # -- shape and type ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.node.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        view = self.derive(RESHAPE, shape=np.empty(self.shape, bool).reshape(shape).shape)
        if view._store is not self._store:
            raise AttributeError("incompatible shape for in-place modification")
        self._steps, self._node, self._seen = view._steps, view._node, view._seen

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.node.value.strides)

    @property
    def base(self) -> Traced | None:
        return Traced(self._store) if self._steps else None

    @property
    def ndim(self) -> int:
        return self.node.ndim

    @property
    def size(self) -> int:
        return int(self.node.value.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        dtype: np.dtype[Any] = self.node.value.dtype
        return dtype

    @property
    def itemsize(self) -> int:
        return int(self.node.value.itemsize)

    @property
    def nbytes(self) -> int:
        return int(self.node.value.nbytes)

    @property
    def flags(self) -> Any:
        return self.node.value.flags

    @property
    def T(self) -> Traced:
        return self.derive(TRANSPOSE, axes=tuple(reversed(range(self.ndim))))

    @property
    def mT(self) -> Traced:
        return self.swapaxes(-1, -2)  # type: ignore[no-any-return]  # from the method table

    @property
    def real(self) -> Traced:
        return self

    @property
    def imag(self) -> Traced:
        return wrap(self.tape, self.tape.record_constant(np.zeros_like(self.node.value)))

    @property
    def flat(self) -> Flat:
        return Flat(self)

    @flat.setter
    def flat(self, values: Any) -> None:
        Flat(self)[:] = values

    def view(self, dtype: Any = None, type: Any = None) -> Traced:
        same = dtype is None or dtype is np.ndarray or dtype == self.dtype
        if not same or type not in (None, np.ndarray):
            self.tape.refuse("ndarray.view as another type", "write x.astype(dtype)")
        return self.derive(RESHAPE, shape=self.shape)

    def __len__(self) -> int:
        return len(self.node.value)

    def __iter__(self) -> Iterator[Traced]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # -- reading values out into Python -----------------------------------------------------------

    def __float__(self) -> float:
        return self.tape.read_out(float(self.value), self.node)

    def __complex__(self) -> complex:
        return complex(float(self))

    def __bool__(self) -> bool:
        truth = bool(self.value)
        mask: Any = self if self.dtype == bool else np.not_equal(self, 0)
        self.tape.guard(mask.node, "a branch")
        return truth

    def __int__(self) -> int:
        self.tape.refuse_if_closed()
        whole = int(self.value)
        towards_zero: Any = np.trunc(self)
        self.tape.guard(towards_zero.node, "an integer read from it")
        return whole

    def __index__(self) -> int:
        whole = self.value.__index__()
        self.tape.guard(self.node, "an index")
        return int(whole)

    def __hash__(self) -> int:
        """As a NumPy integer, for `table[np.argmax(x)]`; what it hashes to is a branch."""
        if not self.is_scalar or self.dtype.kind not in "biu":
            raise TypeError("unhashable type: 'numpy.ndarray'")
        self.tape.guard(self.node, "a key")
        return hash(self.value)

    def __contains__(self, item: Any) -> bool:
        return bool((self == item).any())

    def item(self, *args: Any) -> Traced:
        """Return one element; it stays traced, so that `loss.item() + penalty` does too."""
        if not args:
            if self.size != 1:
                raise ValueError("can only convert an array of size 1 to a Python scalar")
            return self.derive(RESHAPE, shape=())[()]
        index = args[0] if isinstance(args[0], tuple) else np.unravel_index(args[0], self.shape)
        return self[index]

    def tolist(self) -> Any:
        return [row.tolist() for row in self] if self.ndim else self

    def __repr__(self) -> str:
        return f"traced {self.value!r}"

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec)

    # -- indexing ---------------------------------------------------------------------------------

    def __getitem__(self, index: Any) -> Traced:
        return self.derive(INDEX, index=plain_index(self.tape, index))

    def __setitem__(self, index: Any, value: Any) -> None:
        if self.is_scalar:
            raise TypeError("'numpy.float64' object does not support item assignment")
        value = self.tape.downloads.hosted(value)
        if isinstance(index, Traced) and self._masks(index, value):
            self._write_masked(index.node, as_node(self.tape, value))
            return
        index = plain_index(self.tape, index)
        if isinstance(value, Traced) and value._steps and value._store is self._store:
            target = positions(self._store, self._steps)[index]
            if np.array_equal(target, positions(self._store, value._steps)):
                return  # the second half of `x[i] += y`: NumPy stores x[i] where it lies already
        node = as_node(self.tape, value)
        if self._steps:
            self._store.write_at(writable(self._store, self._steps)[index], node)
        else:
            self._store.write(index, node)

    def _masks(self, index: Traced, value: Any) -> bool:
        """Whether this is `x[mask] = number` with a mask that moves with the parameters."""
        moves = index.dtype == bool and index.ndim > 0 and not index.node.constant
        return moves and np.size(value) == 1 and index.shape == self.shape

    def _write_masked(self, mask: Node, value: Node) -> None:
        scalar = self.tape.apply(RESHAPE, value, shape=())
        chosen = self.tape.apply(WHERE, mask, scalar, self.node)
        self.assign(wrap(self.tape, chosen))

    # -- copies -----------------------------------------------------------------------------------

    def copy(self, order: Any = "C") -> Traced:
        old = self.node
        if self.is_scalar:
            return wrap(self.tape, old)
        # The memory layout decides what is a view of the copy later, so the copy has NumPy's.
        new = np.array(old.value, order=order)
        if new.strides == old.value.strides and not old.constant:
            return wrap(self.tape, old)
        return wrap(self.tape, self.tape.record(CAST, (old,), {"dtype": self.dtype}, new))

    def __copy__(self) -> Traced:
        return self.copy()

    def __deepcopy__(self, memo: Any) -> Traced:
        return self.copy()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.tape.refuse("a traced array is pickled", "keep pickling out of the loss")

    def astype(self, dtype: Any, *_: Any, copy: bool = True, **__: Any) -> Traced:
        if not copy and self.dtype == np.dtype(dtype):
            return self
        return wrap(self.tape, self.tape.apply(CAST, self.node, dtype=np.dtype(dtype)))

    def fill(self, value: Any) -> None:
        if not self.is_scalar:  # which NumPy fills a copy of
            self[...] = value

    def __getattr__(self, name: str) -> Any:
        place = self.tape.place
        if place is not None and not name.startswith("__"):
            if name == "get":  # brings the array to the host, where it is already
                return lambda *_, **__: self
            if name == "device":
                return place.device
            if hasattr(imported_cupy().ndarray, name):
                raise UntraceableAttribute(f"cupy.ndarray.{name} cannot be traced; {DEVICE_REMEDY}")
        if name == "device":
            return "cpu"
        if name not in ALTERNATIVES and (name.startswith("__") or not hasattr(np.ndarray, name)):
            raise AttributeError(f"a traced array has no attribute {name!r}")
        raise UntraceableAttribute(f"ndarray.{name} cannot be traced; {alternative(name)}")


class Flat:
    """`x.flat`: the elements one after the other, to read and to write."""

    def __init__(self, array: Traced) -> None:
        self.base = array

    def __len__(self) -> int:
        return self.base.size

    def __iter__(self) -> Iterator[Traced]:
        return iter(self.base.derive(RESHAPE, shape=(-1,)))

    def __getitem__(self, index: Any) -> Traced:
        return self.copy()[index]

    def __setitem__(self, index: Any, values: Any) -> None:
        tape = self.base.tape
        index, values = plain_index(tape, index), wrap(tape, as_node(tape, values))
        places = np.arange(self.base.size)[index]
        # Fewer values than places are used again from the first on.
        many = np.arange(np.size(places)).reshape(np.shape(places)) % np.size(values)
        chosen = np.take(values, many) if np.ndim(values) else values
        self.base[np.unravel_index(places, self.base.shape)] = chosen

    def copy(self) -> Traced:
        return self.base.derive(RESHAPE, shape=(-1,)).copy()


def wrap(tape: Tape, node: Node) -> Traced:
    """Return a traced array that owns its contents."""
    return Traced(Store(tape, node))


def as_node(tape: Tape, value: Any) -> Node:
    """Return the node of a traced array, or a constant node of plain data."""
    if isinstance(value, Traced):
        value.tape.refuse_if_closed()
        return value.node
    if isinstance(value, (list, tuple)) and contains_traced(value):
        value = tape.downloads.hosted(value)
        from fastcheck.trace.functions.join import stack_nested

        return stack_nested(value).node
    return tape.constant(value)


def contains_traced(value: Any) -> bool:
    """Whether a traced array is found in nested lists, tuples and dicts."""
    if isinstance(value, dict):
        return any(map(contains_traced, value.values()))
    return isinstance(value, Traced) or (
        isinstance(value, (list, tuple)) and any(map(contains_traced, value))
    )


def plain_index(tape: Tape, index: Any) -> Any:
    """Return an index of plain data; reading a traced index out of the trace leaves a guard."""
    index = tape.downloads.hosted(index)
    if isinstance(index, tuple):
        return tuple(plain_index(tape, part) for part in index)
    if isinstance(index, Traced):
        tape.guard(index.node, "an index")
        index = index.value if index.is_scalar else np.array(index.value)
    elif isinstance(index, list):
        parts = [plain_index(tape, part) for part in index] if contains_traced(index) else index
        index = np.array(parts) if parts else np.empty(0, dtype=np.intp)
    elif isinstance(index, np.ndarray):
        index = index.copy()  # the user may write into it later
    if isinstance(index, (bool, np.bool_)) or (
        isinstance(index, np.ndarray) and index.dtype == bool and not index.ndim
    ):
        tape.refuse("an array is indexed by a single True or False", "write np.where(flag, x, 0)")
    return index
