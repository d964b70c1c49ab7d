"""Generates the machine code of a loop that calls a function compiled by Numba, copy by copy."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

from fastcheck.engines.compiled_overload import Unusable, numba_itself, of_numba

_NAME = "fastcheck_compiled_loop"
RAISED, WROTE = 1, 2
"""Why a loop stopped: the function raised, or it wrote into the element that was moved."""

Run = Callable[..., int]


def make_loop(compiled: Any) -> tuple[Run, Any]:
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
    cgutils = of_numba("core.cgutils")
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
    types = numba_itself().types
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
        types, context, builder = numba_itself().types, self._context, self._builder
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
        word = context.get_value_type(numba_itself().types.intp)
        block = builder.bitcast(self._block(), word.as_pointer())

        def entry(number: int) -> Any:
            return builder.load(builder.gep(block, [word(number)]))

        array = context.make_array(kind)(context, builder)
        of_numba("np.arrayobj").populate_array(
            array,
            data=builder.inttoptr(entry(0), array.data.type),
            shape=[entry(1 + axis) for axis in range(kind.ndim)],
            strides=[entry(1 + kind.ndim + axis) for axis in range(kind.ndim)],
            itemsize=context.get_constant(
                numba_itself().types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype))
            ),
            meminfo=None,
        )
        return array._getvalue()

    def _block(self) -> Any:
        number = self._context.get_constant(numba_itself().types.intp, self._next)
        self._next += 1
        return self._builder.load(self._builder.gep(self._table, [number]))
