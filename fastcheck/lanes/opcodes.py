"""The instructions of the interpreter, and what stands where in one.

An instruction is a row of integers. Differences are named by their byte offset in the workspace,
constants and tables by their address.
"""

from __future__ import annotations

from enum import IntEnum

FIELDS = 24
"""Integers of an instruction."""


class Field(IntEnum):
    """Places in an instruction."""

    OP = 0
    TARGET = 1
    A = 2
    B = 3
    CONSTANT = 4  # four of them
    STRIDE = 8  # bytes from one number of a constant to the next: 8, or 0 where it is one number
    COUNT = 9
    REACH = 10  # the bits of a float64
    NEARNESS_STRIDE = 11
    # Tables, and strides in bytes.
    TABLE = 4
    OTHER_TABLE = 5
    BASE = 6
    LIST = 5  # room for the numbers of columns
    SIZES = 10  # batch, rows, columns, inner; or the two counts of rows that are added
    TARGET_STRIDES = 14  # batch, rows, columns
    A_STRIDES = 17  # batch, rows, inner
    B_STRIDES = 20  # batch, inner, columns


class Op(IntEnum):
    """What an instruction does. t is the target, a and b differences, c₀ to c₃ constants."""

    # One number after the other: these may run tile by tile.
    COPY = 0  # t = a
    ZERO = 1  # t = 0
    ADD = 2  # t = a + b
    SUBTRACT = 3  # t = a − b
    SCALE = 4  # t = c₀·a
    PRODUCT = 5  # t = a·(c₁ + b) + c₀·b
    QUOTIENT = 6  # t = (a − c₀·b)/(c₁ + b)
    SHIFT = 7  # t = c₀ + a
    QUADRATIC = 8  # t = a·(c₀ + c₁·a)
    CUBIC = 9  # t = a·(c₀ + a·(c₁ + c₂·a))
    SERIES_2 = 10  # t = a·(c₀ + c₁·a), where |b·a| is within reach, b being a constant
    SERIES_4 = 11  # t = a·(c₀ + a·(c₁ + a·(c₂ + c₃·a))), likewise
    WITHIN = 12  # copies for which |a| > c₀ are refused
    # All of an array.
    GATHER = 16  # t[k] = a[table[k]]
    SCATTER = 17  # t[table[k]] = a[k]
    CLEAR = 18  # t[table[k]] = 0
    SCATTER_ADD = 19  # t[table[k]] += a[k]
    SUM = 20  # t[k] = Σ a[table[k·n + i]]
    MATRIX = 21  # t += a · constants, batches of matrices
    MATRICES = 22  # t += a · b
    SEED = 23  # t += step, where the copy's element stands
    ROWS = 24  # t += step · constants, a row or column of them
    MOVED_ROWS = 25  # t += step · (constants + a)
    TILES = 31  # the next COUNT instructions tile by tile, over A numbers


ELEMENTWISE = frozenset(op for op in Op if op < Op.GATHER)
