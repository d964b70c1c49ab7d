"""Machine code that calls a function compiled by Numba in a loop over perturbed copies.

The function is the one that Numba made for the user's own call: its address is called as Numba's
code calls it, with arguments in Numba's own layout. Nothing of it is compiled again, so the losses
are the user's to the last bit, and the loop around it is made in some 20 ms.
"""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable
from importlib import import_module
from time import perf_counter
from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray

_NAME = "fastcheck_compiled_loop"
_MOST_KEPT = 64
RAISED, WROTE = 1, 2
"""Why a loop stopped: the function raised, or it wrote into the element that was moved."""

Run = Callable[..., int]
_loops: dict[Any, tuple[Run, Any]] = {}
_around: weakref.WeakSet[Any] = weakref.WeakSet()
"""Functions that a loop has been made around."""
_price = 0.05
"""Seconds that making a loop takes: what the latest one took."""


class Unusable(Exception):  # noqa: N818  # a state of the user's code, not a mistake
    """The compiled function cannot be called from a compiled loop; the text says why."""


class Overload:
    """What Numba compiled for the types of one call.

    Parameters
    ----------
    dispatcher : numba.core.registry.CPUDispatcher
        The user's function.
    arguments : tuple
        As `folded` gives them.

    Raises
    ------
    Unusable
        There is no such code, or it takes or returns what a loop cannot handle.
    """

    def __init__(self, dispatcher: Any, arguments: tuple[Any, ...]) -> None:
        self.dispatcher = dispatcher
        given = tuple(_type_of(argument) for argument in arguments)
        self._compiled = _chosen(dispatcher, given)
        self.types: tuple[Any, ...] = tuple(self._compiled.signature.args)
        self.returns = self._compiled.signature.return_type
        types = _numba().types
        if not isinstance(self.returns, types.Integer | types.Float):
            raise Unusable(f"it returns {self.returns} there, not one real number")
        description = self._compiled.fndesc
        library = self._compiled.library
        self.address = int(library.get_pointer_to_function(description.llvm_func_name))
        if not self.address:
            raise Unusable("its machine code cannot be found")

    @property
    def is_single(self) -> bool:
        """Whether it returns float32 or less, which Python sees as a float."""
        types = _numba().types
        return isinstance(self.returns, types.Float) and self.returns.bitwidth < 64

    def loop(self) -> Loop:
        """Return the loop around it, made now if none of its signature has been made."""
        key = (self.types, self.returns, type(self._compiled.target_context))
        if key not in _loops:
            start = perf_counter()
            with _of_numba("core.compiler_lock").global_compiler_lock:
                made = _make_loop(self._compiled)
            global _price
            _price = perf_counter() - start
            if len(_loops) >= _MOST_KEPT:
                del _loops[next(iter(_loops))]
            _loops[key] = made
        _around.add(self.dispatcher)
        return Loop(*_loops[key], self)


def seconds_to_make(dispatcher: Any) -> float:
    """Estimate how long a loop around a function takes to make; nothing, if there has been one."""
    return 0.0 if dispatcher in _around else _price


class Loop:
    """Calls an overload for one copy after the other."""

    def __init__(self, run: Run, library: Any, overload: Overload) -> None:
        self._run = run
        self._alive = (library, overload)  # machine code lives as long as these
        self._address = overload.address

    def __call__(
        self,
        arena: FloatArray,
        base: FloatArray | None,
        table: Table,
        positions: IndexArray,
        values: FloatArray,
        losses: FloatArray,
    ) -> tuple[int, int]:
        """Fill `losses` with one element of `arena` after the other at its value.

        Parameters
        ----------
        arena : float64 array
            The memory that the arguments view. Every element is put back.
        base : float64 array, optional
            Copied over the arena before every call.
        table : Table
            The arguments.
        positions, values : arrays
            Which element of the arena takes which value.
        losses : float64 array
            Is filled.

        Returns
        -------
        tuple of int
            How many were done, and why it stopped there: 0, `RAISED` or `WROTE`.
        """
        stop = ctypes.c_int64(0)
        try:
            done = self._run(
                self._address,
                arena.ctypes.data,
                arena.ctypes.data if base is None else base.ctypes.data,
                0 if base is None else arena.nbytes,
                positions.ctypes.data,
                values.ctypes.data,
                losses.ctypes.data,
                len(positions),
                table.address,
                ctypes.addressof(stop),
            )
        except SystemError:  # Python code that it calls has raised
            return 0, RAISED
        return done, stop.value


class Table:
    """Arguments in memory, as a loop reads them: a block for each array and number.

    Parameters
    ----------
    types : tuple
        Numba's types of the arguments.
    arguments : tuple
        Arrays, numbers, None, and tuples of these.

    Raises
    ------
    Unusable
        An argument is something else.
    """

    def __init__(self, types: tuple[Any, ...], arguments: tuple[Any, ...]) -> None:
        self._alive = arguments
        self._blocks: list[np.ndarray[Any, Any]] = []
        for kind, argument in zip(types, arguments, strict=True):
            self._add(kind, argument)
        addresses = [block.ctypes.data for block in self._blocks]
        self._table = np.array(addresses or [0], dtype=np.int64)
        self.address = int(self._table.ctypes.data)

    def _add(self, kind: Any, argument: Any) -> None:
        numba = _numba()
        types = numba.types
        if isinstance(kind, types.BaseTuple):
            for part, entry in zip(kind, argument, strict=True):
                self._add(part, entry)
        elif isinstance(kind, types.Array):
            layout = [argument.ctypes.data, *argument.shape, *argument.strides]
            self._blocks.append(np.array(layout, dtype=np.int64))
        elif isinstance(kind, types.Boolean | types.Number):
            self._blocks.append(np.array(argument, dtype=_dtype_of(kind)))
        elif not isinstance(kind, types.NoneType | types.Omitted):
            raise Unusable(f"it takes an argument of Numba's type {kind}")


class Default:
    """The default value of an argument that the caller left out."""

    def __init__(self, value: Any) -> None:
        self.value = value


def folded(dispatcher: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the arguments of a call by place, as Numba orders them; defaults as `Default`."""
    signature = dispatcher._compiler.pysig
    found: tuple[Any, ...] = _of_numba("core.typing.templates").fold_arguments(
        signature,
        args,
        kwargs,
        lambda index, parameter, value: value,
        lambda index, parameter, value: Default(value),
        lambda index, parameter, values: tuple(values),
    )
    return found


def _numba() -> Any:
    return sys.modules["numba"]


def _of_numba(module: str) -> Any:
    return import_module(f"numba.{module}")


def _type_of(argument: Any) -> Any:
    numba = _numba()
    if isinstance(argument, Default):
        return numba.types.Omitted(argument.value)
    try:
        return numba.typeof(argument)
    except Exception as why:
        raise Unusable(f"it takes a {type(argument).__name__}") from why


def _dtype_of(kind: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = _of_numba("np.numpy_support").as_dtype(kind)
    return found


def _chosen(dispatcher: Any, given: tuple[Any, ...]) -> Any:
    """Return the code that Numba runs for arguments of the given types."""
    exact = dispatcher.overloads.get(given)
    if exact is not None:
        return exact
    # Explicit signatures take arrays of a narrower type: one only, or Numba's choice is not known.
    others = [
        compiled for types, compiled in dispatcher.overloads.items() if _accepts(types, given)
    ]
    if len(others) != 1:
        kinds = ", ".join(map(str, given))
        raise Unusable(f"no code of it is compiled for arguments of types ({kinds})")
    return others[0]


def _accepts(takes: tuple[Any, ...], given: tuple[Any, ...]) -> bool:
    return len(takes) == len(given) and all(map(_accepts_one, takes, given))


def _accepts_one(takes: Any, given: Any) -> bool:
    """Whether Numba passes a value of one type for another without changing it."""
    types = _numba().types
    if takes == given:
        return True
    if isinstance(takes, types.BaseTuple) and type(takes) is type(given):
        return _accepts(tuple(takes), tuple(given))
    if isinstance(given, types.Integer | types.Float) and takes == types.float64:
        return True
    if not (isinstance(takes, types.Array) and isinstance(given, types.Array)):
        return False
    return bool(
        (takes.dtype, takes.ndim) == (given.dtype, given.ndim)
        and takes.layout in ("A", given.layout)
        and (given.mutable or not takes.mutable)
        and (given.aligned or not takes.aligned)
    )


def _make_loop(compiled: Any) -> tuple[Run, Any]:
    """Generate the loop, and return it with what keeps its machine code alive."""
    from llvmlite import ir

    context, signature = compiled.target_context, compiled.signature
    library = context.codegen().create_library(_NAME)
    module = library.create_ir_module(_NAME)
    word, real, byte = ir.IntType(64), ir.DoubleType(), ir.IntType(8)
    reals, words, pointer = real.as_pointer(), word.as_pointer(), byte.as_pointer()
    takes = (pointer, reals, reals, word, words, reals, reals, word, pointer.as_pointer(), words)
    function = ir.Function(module, ir.FunctionType(word, takes), name=library.name + "_run")
    _write_body(ir, context, signature, function)
    library.add_ir_module(module)
    library.finalize()
    address = library.get_pointer_to_function(function.name)
    if not address:
        raise Unusable("a loop around it could not be made")
    arguments = [ctypes.c_void_p] * 3 + [ctypes.c_int64] + [ctypes.c_void_p] * 3
    arguments += [ctypes.c_int64] + [ctypes.c_void_p] * 2
    return ctypes.CFUNCTYPE(ctypes.c_int64, *arguments)(address), library


def _write_body(ir: Any, context: Any, signature: Any, function: Any) -> None:
    """Write the loop: restore, move an element, call, look at it, put it back."""
    cgutils = _of_numba("core.cgutils")
    address, arena, base, restored, positions, values, losses, count, table, stop = function.args
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    word = count.type
    zero, one = word(0), word(1)
    kind = context.call_conv.get_function_type(signature.return_type, signature.args)
    callee = builder.bitcast(address, kind.as_pointer())
    native = _Arguments(context, builder, table).of(signature.args)
    restoring = builder.icmp_signed("!=", restored, zero)
    at = cgutils.alloca_once_value(builder, zero)
    head, body = (function.append_basic_block(name) for name in ("head", "body"))
    raised, fine = (function.append_basic_block(name) for name in ("raised", "fine"))
    wrote, step = (function.append_basic_block(name) for name in ("wrote", "step"))
    end = function.append_basic_block("end")
    builder.branch(head)

    builder.position_at_end(head)
    number = builder.load(at)
    builder.cbranch(builder.icmp_signed("<", number, count), body, end)

    builder.position_at_end(body)
    with builder.if_then(restoring):
        cgutils.raw_memcpy(builder, arena, base, restored, one)
    place = builder.gep(arena, [builder.load(builder.gep(positions, [number]))])
    start, value = builder.load(place), builder.load(builder.gep(values, [number]))
    builder.store(value, place)
    status, result = context.call_conv.call_function(
        builder, callee, signature.return_type, signature.args, native
    )
    after = builder.load(place)
    builder.store(start, place)
    builder.cbranch(status.is_ok, fine, raised)

    builder.position_at_end(raised)
    builder.store(word(RAISED), stop)
    builder.branch(end)

    builder.position_at_end(fine)
    types = _numba().types
    loss = context.cast(builder, result, signature.return_type, types.float64)
    builder.store(loss, builder.gep(losses, [number]))
    # Bits, not numbers: a NaN is a foreign write, too.
    same = builder.icmp_signed("==", builder.bitcast(after, word), builder.bitcast(value, word))
    builder.cbranch(builder.or_(same, restoring), step, wrote)

    builder.position_at_end(wrote)
    builder.store(word(WROTE), stop)
    builder.branch(end)

    builder.position_at_end(step)
    builder.store(builder.add(number, one), at)
    builder.branch(head)

    builder.position_at_end(end)
    with builder.if_then(restoring):
        cgutils.raw_memcpy(builder, arena, base, restored, one)
    builder.ret(number)


class _Arguments:
    """Loads arguments from a `Table`, block by block."""

    def __init__(self, context: Any, builder: Any, table: Any) -> None:
        self._context, self._builder, self._table = context, builder, table
        self._next = 0

    def of(self, types: tuple[Any, ...]) -> list[Any]:
        return [self._value(kind) for kind in types]

    def _value(self, kind: Any) -> Any:
        types, context, builder = _numba().types, self._context, self._builder
        if isinstance(kind, types.BaseTuple):
            return context.make_tuple(builder, kind, self.of(tuple(kind)))
        if isinstance(kind, types.Array):
            return self._array(kind)
        if isinstance(kind, types.NoneType):
            return context.get_dummy_value()
        if isinstance(kind, types.Omitted):
            return context.get_value_type(kind)(None)
        if isinstance(kind, types.Boolean | types.Number):
            block = builder.bitcast(self._block(), context.get_data_type(kind).as_pointer())
            return context.unpack_value(builder, kind, block)
        raise Unusable(f"it takes an argument of Numba's type {kind}")

    def _array(self, kind: Any) -> Any:
        context, builder = self._context, self._builder
        word = context.get_value_type(_numba().types.intp)
        block = builder.bitcast(self._block(), word.as_pointer())

        def entry(number: int) -> Any:
            return builder.load(builder.gep(block, [word(number)]))

        array = context.make_array(kind)(context, builder)
        _of_numba("np.arrayobj").populate_array(
            array,
            data=builder.inttoptr(entry(0), array.data.type),
            shape=[entry(1 + axis) for axis in range(kind.ndim)],
            strides=[entry(1 + kind.ndim + axis) for axis in range(kind.ndim)],
            itemsize=context.get_constant(
                _numba().types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype))
            ),
            meminfo=None,
        )
        return array._getvalue()

    def _block(self) -> Any:
        number = self._context.get_constant(_numba().types.intp, self._next)
        self._next += 1
        return self._builder.load(self._builder.gep(self._table, [number]))
