"""Programs at work: copies in groups of eight, spread over threads."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastcheck.fusion.compiler import (
    Function,
    compiled_text,
    has_many_registers,
    is_compiled_text,
)
from fastcheck.fusion.kernel import spread
from fastcheck.lanes.assembly import BYTES, LANES
from fastcheck.lanes.interpreter import text
from fastcheck.lanes.program import Program

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@cache
def source() -> str:
    """Return the interpreter for this processor."""
    return text(has_many_registers())


def is_compiled() -> bool:
    """Whether the interpreter's machine code is at hand, in memory or on disk."""
    return _function.cache_info().currsize > 0 or is_compiled_text(source())


@cache
def _function() -> Function:
    return compiled_text(source())


def run(program: Program, indices: Indices, moves: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return J(θ + move) − J(θ) for moves of single elements, and which copies are refused."""
    function = _function()
    count = len(indices)
    groups = -(-count // LANES)
    elements, steps = np.zeros(groups * LANES, dtype=np.int64), np.zeros(groups * LANES)
    elements[:count], steps[:count] = indices, moves
    changes = np.empty(groups * LANES)
    refused = np.empty(groups * LANES, dtype=np.int64)
    about = np.array([len(program.code), program.loss], dtype=np.int64)
    arrays = (program.code, about, elements, None, None, steps, changes, None, refused)

    def some(first: int, last: int) -> None:
        workspace = _workspace(program.vectors)
        addresses = [0 if array is None else array.ctypes.data for array in arrays]
        addresses[4] = workspace.ctypes.data
        function(*map(ctypes.c_void_p, addresses), first, last)

    spread(some, groups, program.work)
    return changes[:count], refused[:count] != 0


def _workspace(vectors: int) -> NDArray[np.uint8]:
    """Return memory that begins where a vector may begin."""
    memory = np.empty((vectors + 1) * BYTES, dtype=np.uint8)
    shift = -memory.ctypes.data % BYTES
    return memory[shift : shift + vectors * BYTES]
