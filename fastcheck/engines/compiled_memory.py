"""The memory that a compiled function gets its arguments from: one block for each thread."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcheck.engines.base import FloatArray, IndexArray
from fastcheck.engines.compiled_calls import Captured, arrays_in
from fastcheck.engines.compiled_overload import Default, Unusable
from fastcheck.params import ParamTree, Tensor
from fastcheck.params.complex_parts import joined

_ITEM = 8
_APART = 64
"""Bytes to which every array is aligned: a cache line, and enough for any vector."""

AnyArray = np.ndarray[Any, Any]


class Layout:
    """Where in a block each tensor lies, and each other array that the function writes into.

    Parameters
    ----------
    tree : ParamTree

    Attributes
    ----------
    size : int
        Bytes of a block.
    """

    def __init__(self, tree: ParamTree) -> None:
        self.size = 0
        self._tensors = {tensor.name: tensor for tensor in tree if not tensor.scalar}
        self._offsets = {
            name: self._reserve(tensor.value.nbytes) for name, tensor in self._tensors.items()
        }
        # By `id`: the offset, the array itself, which keeps the id its own, and what it held.
        self._others: dict[int, tuple[int, AnyArray, AnyArray]] = {}

    def add(self, array: AnyArray, contents: AnyArray) -> None:
        """Give an array that the function writes into a place of its own in every block.

        Raises
        ------
        Unusable
            It is a view with gaps.
        """
        if not (array.flags.c_contiguous or array.flags.f_contiguous) or array.dtype.hasobject:
            raise Unusable("it writes into a part of an array")
        if id(array) not in self._others:
            self._others[id(array)] = (self._reserve(array.nbytes), array, contents)

    def block(self) -> FloatArray:
        """Return a new block that holds θ, and what the other arrays held."""
        block = _aligned(self.size)
        for tensor in self._tensors.values():
            self._view(block, tensor)[...] = tensor.value
        for offset, _, contents in self._others.values():
            _array(block, offset, contents.shape, contents.dtype, contents.strides)[...] = contents
        return block

    def leaves(self, block: FloatArray) -> dict[str, AnyArray]:
        """Return the tensors in a block, as the loss takes them."""
        return {
            name: joined(self._view(block, tensor))
            if tensor.is_complex
            else self._view(block, tensor)
            for name, tensor in self._tensors.items()
        }

    def positions(self, tensor: Tensor, indices: IndexArray) -> IndexArray:
        """Return the places in a block, in numbers of 8 bytes, of elements counted in C order."""
        first = self._offsets[tensor.name] // _ITEM
        places = np.full(len(indices), first, dtype=np.int64)
        if tensor.shape:
            axes = np.unravel_index(indices, tensor.shape)
            for axis, stride in zip(axes, tensor.value.strides, strict=True):
                places += axis * (stride // _ITEM)
        return places

    def holds(self, block: FloatArray, tensor: Tensor, argument: Any) -> bool:
        """Whether an argument is a view of a tensor in a block (one of nothing is)."""
        if not isinstance(argument, np.ndarray) or tensor.scalar:
            return False
        return not argument.size or np.may_share_memory(argument, self._view(block, tensor))

    def moved(self, arguments: tuple[Any, ...], old: FloatArray, new: FloatArray) -> Any:
        """Return arguments with what lies in the block `old` in `new` instead."""
        return tuple(self._moved(argument, old, new) for argument in arguments)

    def _moved(self, value: Any, old: FloatArray, new: FloatArray) -> Any:
        if isinstance(value, Default):
            return value
        if isinstance(value, tuple):
            entries = [self._moved(entry, old, new) for entry in value]
            return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)
        if not isinstance(value, np.ndarray):
            return value
        if id(value) in self._others:
            offset = self._others[id(value)][0]
        elif np.may_share_memory(value, old):
            offset = value.ctypes.data - old.ctypes.data
        else:
            return value
        return _array(new, offset, value.shape, value.dtype, value.strides)

    def altered(self, block: FloatArray) -> tuple[str, ...]:
        """Return the names of tensors that are not θ in a block."""
        tensors = self._tensors.items()
        return tuple(name for name, t in tensors if _differ(self._view(block, t), t.value))

    def _view(self, block: FloatArray, tensor: Tensor) -> AnyArray:
        value = tensor.value
        return _array(block, self._offsets[tensor.name], value.shape, value.dtype, value.strides)

    def _reserve(self, size: int) -> int:
        offset = self.size
        self.size += -(-size // _APART) * _APART
        return offset


def numbers(tree: ParamTree) -> dict[str, Any]:
    """Return what is handed to the loss by value: there is no memory of it to move."""
    scalars = [tensor for tensor in tree if tensor.scalar]
    return {t.name: (joined(t.value) if t.is_complex else t.value)[()] for t in scalars}


def others_written(captured: Captured) -> list[tuple[AnyArray, AnyArray]]:
    """Return the arrays beside the parameters that no longer hold what they did, and what that was.

    Raises
    ------
    Unusable
        One of them shares memory with another.
    """
    others = [a for a in arrays_in(captured.arguments) if id(a) in captured.before]
    written = [a for a in others if _differ(a, captured.before[id(a)])]
    for array in written:
        if any(other is not array and np.may_share_memory(array, other) for other in others):
            raise Unusable("it writes into an array that shares memory with another argument")
    return [(array, captured.before[id(array)]) for array in written]


def bytes_of_others(arguments: tuple[Any, ...], block: FloatArray) -> int:
    """Return the size of the arrays that do not lie in a block."""
    return sum(a.nbytes for a in arrays_in(arguments) if not np.may_share_memory(a, block))


def _differ(one: AnyArray, other: AnyArray) -> bool:
    """Whether two arrays of one layout differ in any bit."""
    if one.dtype.kind == "f" and one.dtype.itemsize == _ITEM:
        return bool((one.view(np.uint64) != other.view(np.uint64)).any())
    return one.tobytes() != other.tobytes()


def _aligned(size: int) -> FloatArray:
    """Return so many bytes of zeros at an address that vectors like."""
    memory = np.zeros(size + _APART, dtype=np.uint8)
    first = -memory.ctypes.data % _APART
    return memory[first : first + size].view(np.float64)


def _array(
    block: FloatArray,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
) -> AnyArray:
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.ndarray(shape, dtype, block, offset, strides)
